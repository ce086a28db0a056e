"""Made runs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from recbole_llmgraph.store.per_user import PerUser
from recbole_llmgraph.store.record import Code, RunRecord

Made = tuple[RunRecord, PerUser]


def made_run(key: str = "a1b2c3d4e5f60718", users: int = 50, draw: int = 0, **changes: Any) -> Made:
    """A finished run with random ranks; equal arguments give equal runs."""
    rng = np.random.default_rng(draw)
    ranks = {mask: rng.integers(0, 21, users) for mask in ("train", "none")}
    per_user = PerUser.from_ranks(ranks)
    facts: dict[str, Any] = {
        "key": key,
        "model": "HeLLM",
        "dataset": "beauty",
        "protocol": "seq",
        "preset": "standard",
        "seed": 1,
        "settings": {"tau": 0.3, "n_layers": 2},
        "results_version": 1,
        "split_fingerprint": "5f1e",
        "mask": "train",
        "metrics": {"valid": {"train": {"ndcg@10": 0.5}}, "test": per_user.means()},
        "code": Code(version="0.1.0", commit="abcdef012345", dirty=False),
        "finished": "2026-01-01T00:00:00+00:00",
    }
    return RunRecord(**(facts | changes)), per_user


@pytest.fixture
def make_run() -> Callable[..., Made]:
    return made_run
