"""Randomness that depends on (seed, phase, epoch) and nothing else.

Every epoch starts by seeding Python, NumPy and torch from these three. What happened
before (an evaluation, a kill, a resume) cannot change it, so a resumed run equals one
that was never stopped without storing any generator's state.
"""

import hashlib
import random

import numpy as np
import torch


def epoch_seed(seed: int, phase: str, epoch: int) -> int:
    """Seed of one epoch, spread over 63 bits."""
    digest = hashlib.sha256(f"{seed}/{phase}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def seed_everything(seed: int) -> np.random.Generator:
    """Seed Python, NumPy and torch; return a NumPy generator of its own for the batch order."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    return np.random.default_rng(seed)
