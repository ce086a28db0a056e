"""Made stores and boards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_llmgraph.base.hashing import hash_data
from recbole_llmgraph.report.leaderboard import Leaderboard, leaderboards
from recbole_llmgraph.store.frame import runs_frame
from recbole_llmgraph.store.per_user import PerUser
from recbole_llmgraph.store.record import Code, Cost, Parameters, RunRecord
from recbole_llmgraph.store.runs import RunStore, read_stores


def add_run(root: Path, model: str = "HeLLM", *, hit: float = 0.2, users: int = 200, **changes: Any) -> Path:
    """Store a run whose users are hit with probability `hit`; equal arguments give equal runs."""
    identity = hash_data([model, hit, {k: repr(v) for k, v in changes.items() if k != "finished"}])
    rng = np.random.default_rng(int(identity, 16))
    ranks = {mask: rng.integers(1, 21, users) * (rng.random(users) < hit) for mask in ("train", "none")}
    per_user = PerUser.from_ranks(ranks)
    facts: dict[str, Any] = {
        "key": identity,
        "model": model,
        "dataset": "beauty",
        "protocol": "seq",
        "preset": "standard",
        "seed": 1,
        "settings": {"tau": 0.3},
        "results_version": 1,
        "split_fingerprint": "5f1e",
        "candidates": 12_101,
        "single_target": True,
        "mask": "train",
        "metrics": {"test": per_user.means()}
        | ({"valid": changes.pop("valid")} if "valid" in changes else {}),
        "parameters": Parameters(total=1_534_000, trained=200_000),
        "cost": Cost(seconds_per_epoch=35.25, seconds_total=702.0, eval_users_per_second=2_345.6),
        "code": Code(version="0.1.0", commit="abcdef012345", dirty=False),
        "epochs_run": 10,
        "best_epoch": 7,
    }
    return RunStore(root).write(RunRecord(**(facts | changes)), per_user)


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def add(store) -> Callable[..., Path]:
    return lambda *args, **changes: add_run(store, *args, **changes)


@pytest.fixture
def boards(store) -> Callable[..., list[Leaderboard]]:
    """All tables of the store, one mask unless another is asked for."""

    def read(mask: str = "train") -> list[Leaderboard]:
        return [b for b in leaderboards(runs_frame(read_stores([store]).runs)) if b.mask == mask]

    return read
