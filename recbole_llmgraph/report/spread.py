"""How far a mean would move with other users: kept apart from how far it moves with other seeds."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llmgraph.report.leaderboard import seed_interval
from recbole_llmgraph.store.per_user import PerUser
from recbole_llmgraph.store.runs import PER_USER


def user_half(row: Mapping[Any, Any], mask: str, metric: str) -> float:
    """Half of the 95 % interval of a row's mean over its test users; NaN where a run lacks the metric.

    Student's t on the users' values, of several seeds on each user's mean over them: what the bootstrap
    over users comes to with so many of them, without its noise.
    """
    return _half(tuple(row["folders"]), mask, metric)


def user_values(row: Mapping[Any, Any], mask: str, metric: str) -> np.ndarray | None:
    """Each test user's value, of several seeds their mean; None where a run lacks the metric. `[users]`"""
    runs = [_users(folder) for folder in row["folders"]]
    if not all(metric in run.metric_names(mask) for run in runs):
        return None
    total = runs[0].column(metric, mask)
    for run in runs[1:]:
        total = total + run.column(metric, mask)
    return total / len(runs)


@cache
def _half(folders: tuple[str, ...], mask: str, metric: str) -> float:
    """The same, once for every page that asks."""
    values = user_values({"folders": folders}, mask, metric)
    return float("nan") if values is None else seed_interval(values)


@cache
def _users(folder: str) -> PerUser:
    """Ranks of a run are a byte a user, so that all runs of a store may be kept."""
    return PerUser.read(Path(folder) / PER_USER)
