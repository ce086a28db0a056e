"""Randomness that depends on (seed, phase, epoch) and nothing else.

Every epoch starts by seeding Python, NumPy and torch from these three. What happened
before (an evaluation, a kill, a resume) cannot change it, so a resumed run equals one
that was never stopped without storing any generator's state.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def one_order_of_sums() -> Iterator[None]:
    """Add up in one order, however many threads there are.

    The gradient of `table[ids]` is summed by several threads in the order in which they happen to come,
    once a batch has some ten thousand numbers: equal runs then differ in their last digits.
    """
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # a debugging aid that costs time
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = fill
