"""What a row of metrics can say at all, when every user has one test item.

With ranks r of the one relevant item, HR@k counts r ≤ k and NDCG@k adds 1/log2(r + 1) for each. So

    HR@a / log2(a + 1)  ≤  NDCG@a  ≤  HR@a
    ΔHR / log2(b + 1)   ≤  ΔNDCG   ≤  ΔHR / log2(a + 2)      for a < b, Δ from a to b

A printed number may be off by half of its last place, which the bounds allow for.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import log2
from typing import Protocol


class Number(Protocol):
    """A printed metric."""

    @property
    def dataset(self) -> str:
        """Its dataset."""

    @property
    def metric(self) -> str:
        """`recall@10`."""

    @property
    def value(self) -> float:
        """A fraction."""

    @property
    def half(self) -> float:
        """How far the true value may lie from `value`."""


def infeasible(cells: Iterable[Number]) -> set[tuple[str, str]]:
    """Dataset and metric of every cell of one row that takes part in a contradiction."""
    by_dataset: dict[str, dict[str, Number]] = {}
    for cell in cells:
        by_dataset.setdefault(cell.dataset, {})[cell.metric] = cell
    return {(dataset, metric) for dataset, own in by_dataset.items() for metric in _contradictions(own)}


def _contradictions(cells: dict[str, Number]) -> set[str]:
    """Metrics of one row and dataset that break a bound."""
    cutoffs = sorted(int(metric.partition("@")[2]) for metric in cells if metric.startswith("recall@"))
    cutoffs = [k for k in cutoffs if f"ndcg@{k}" in cells]
    bad: set[str] = set()
    for k in cutoffs:
        hit, gain = cells[f"recall@{k}"], cells[f"ndcg@{k}"]
        if not _between(gain.value, hit.value / log2(k + 1), hit.value, [hit, gain]):
            bad |= {hit.metric, gain.metric}
    for a, b in pairwise(cutoffs):
        four = [cells[f"{kind}@{k}"] for kind in ("recall", "ndcg") for k in (a, b)]
        hits, gains = four[1].value - four[0].value, four[3].value - four[2].value
        if not _between(gains, hits / log2(b + 1), hits / log2(a + 2), four):
            bad |= {cell.metric for cell in four}
    return bad


def _between(value: float, low: float, high: float, cells: Sequence[Number]) -> bool:
    """Whether a bound holds for some true values that print as these do."""
    slack = sum(cell.half for cell in cells) + 1e-12
    return low - slack <= value <= high + slack
