"""Per-user test results, a few bytes a user.

With one test item a user (leave-one-out), every top-k metric is a function of that item's rank,
so one small integer a user and mask says all. With several, values are kept as float32.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

#: Metrics made from ranks when nobody names others.
METRICS = ("recall@10", "ndcg@10", "recall@20", "ndcg@20")
_META = b"recbole_llmgraph"
_COLUMN = re.compile(r"(rank|[a-z]+@\d+)\|\w+")


def metric_of_rank(name: str, rank: np.ndarray) -> np.ndarray:
    """Value of a top-k metric for users with a single relevant item.

    Args:
        name: `recall@k`, `hit@k`, `ndcg@k`, `mrr@k` or `precision@k`.
        rank: [users] place of the relevant item, 1 = first; 0 = beyond the ranks that were kept.

    Returns:
        [users] float64, equal to RecBole's: with one relevant item the ideal DCG is 1, so that
        NDCG = 1/log2(rank + 1).

    Raises:
        KeyError: for a metric that is no function of the rank.
    """
    kind, k = split_metric(name)
    ranks = rank.astype(np.float64)
    place = np.where(ranks > 0, ranks, 1.0)  # any positive number: the row is zeroed below
    values: dict[str, np.ndarray | float] = {
        "recall": 1.0,
        "hit": 1.0,
        "ndcg": 1.0 / np.log2(place + 1.0),
        "mrr": 1.0 / place,
        "precision": 1.0 / k,
    }
    value = values[kind]
    return np.asarray(np.where((ranks > 0) & (ranks <= k), value, 0.0), dtype=np.float64)


def split_metric(name: str) -> tuple[str, int]:
    """`ndcg@10` → `("ndcg", 10)`."""
    kind, _, k = name.partition("@")
    if not k.isdigit():
        raise KeyError(f"'{name}' is no top-k metric such as 'ndcg@10'")
    return kind, int(k)


@dataclass(frozen=True)
class PerUser:
    """Per-user test results of one run; row = position of the user in the split.

    Attributes:
        ranks: by mask, [users] rank of the one test item (0 = beyond the ranks kept).
        values: by column `metric|mask`, [users] float32 where ranks do not say all.
        metrics: metric names that the ranks stand for.
    """

    ranks: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    metrics: tuple[str, ...] = METRICS

    def __post_init__(self) -> None:
        sizes = {len(column) for column in (*self.ranks.values(), *self.values.values())}
        if len(sizes) != 1:
            raise ValueError(f"per-user columns must have one common length, not {sorted(sizes)}")

    def __len__(self) -> int:
        """Number of users."""
        return len(next(iter((*self.ranks.values(), *self.values.values()))))

    @classmethod
    def from_ranks(cls, ranks: Mapping[str, np.ndarray], metrics: Sequence[str] = METRICS) -> "PerUser":
        """From the rank of each user's only test item, by mask; 0 where it is not in the top-k."""
        return cls({mask: _small(np.asarray(column)) for mask, column in ranks.items()}, {}, tuple(metrics))

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> "PerUser":
        """From columns `metric@k|mask` or `rank|mask`; ranks replace metrics where they say exactly the same.

        Raises:
            ValueError: for a column of another name, or metrics that contradict the ranks beside them.
        """
        by_mask: dict[str, dict[str, np.ndarray]] = {}
        for column in frame.columns:
            metric, _, mask = str(column).partition("|")
            if not _COLUMN.fullmatch(str(column)):
                raise ValueError(f"per-user column '{column}' is neither 'metric@k|mask' nor 'rank|mask'")
            by_mask.setdefault(mask, {})[metric] = frame[column].to_numpy()
        return cls._pack(by_mask)

    @classmethod
    def _pack(cls, by_mask: Mapping[str, dict[str, np.ndarray]]) -> "PerUser":
        """Ranks for all masks when all agree with them, plain values otherwise."""
        metrics = tuple(dict.fromkeys(m for columns in by_mask.values() for m in columns if m != "rank"))
        ranks: dict[str, np.ndarray] = {}
        for mask, columns in by_mask.items():
            named = {name: values for name, values in columns.items() if name != "rank"}
            rank = _small(columns["rank"]) if "rank" in columns else infer_ranks(named)
            whole = set(named) == set(metrics) and rank is not None and _same(named, rank)
            if "rank" in columns and not whole:
                raise ValueError(f"per-user metrics under mask '{mask}' contradict the ranks beside them")
            if whole and rank is not None:
                ranks[mask] = rank
        if len(ranks) == len(by_mask):
            return cls(ranks, {}, metrics or METRICS)
        values = {
            f"{name}|{mask}": np.asarray(column, dtype=np.float32)
            for mask, columns in by_mask.items()
            for name, column in columns.items()
        }
        return cls({}, values, ())

    def to_frame(self) -> pd.DataFrame:
        """[users, metrics × masks] float64 columns `metric@k|mask`."""
        told = {f"{m}|{mask}": metric_of_rank(m, r) for mask, r in self.ranks.items() for m in self.metrics}
        kept = {name: column.astype(np.float64) for name, column in self.values.items()}
        return pd.DataFrame(told | kept)

    def metric_names(self, mask: str) -> list[str]:
        """Metrics that are known under a mask."""
        own = [name.partition("|") for name in self.values]
        return [*(self.metrics if mask in self.ranks else ()), *(m for m, _, of in own if of == mask)]

    def column(self, metric: str, mask: str) -> np.ndarray:
        """[users] float64 values of one metric, by a table of the few ranks there are.

        Raises:
            KeyError: when it is not known under this mask.
        """
        if mask not in self.ranks:
            return np.asarray(self.values[f"{metric}|{mask}"], dtype=np.float64)
        if metric not in self.metrics:
            raise KeyError(metric)
        ranks = self.ranks[mask]
        of_rank = metric_of_rank(metric, np.arange(int(ranks.max(initial=0)) + 1))
        return np.asarray(of_rank[ranks])

    def means(self) -> dict[str, dict[str, float]]:
        """Mean over users: `{mask: {metric: mean}}`."""
        means: dict[str, dict[str, float]] = {}
        for column, values in self.to_frame().items():
            metric, _, mask = str(column).partition("|")
            means.setdefault(mask, {})[metric] = float(values.mean()) if len(values) else 0.0
        return means

    def write(self, path: Path) -> None:
        """Write one parquet file; equal results give equal bytes under one pyarrow version."""
        columns = {f"rank|{mask}": rank for mask, rank in self.ranks.items()} | self.values
        table = pa.table({name: pa.array(column) for name, column in columns.items()})
        table = table.replace_schema_metadata({_META: json.dumps({"metrics": self.metrics}).encode()})
        few = [name for name, column in columns.items() if len(np.unique(column)) * 4 < len(column)]
        pq.write_table(table, path, compression="zstd", compression_level=9, use_dictionary=few)

    @classmethod
    def read(cls, path: Path) -> "PerUser":
        """Read what `write` wrote.

        Raises:
            OSError, pyarrow.ArrowException, KeyError: for a file that `write` did not write whole.
        """
        table = pq.read_table(path)
        metrics = json.loads((table.schema.metadata or {})[_META])["metrics"]
        columns = {name: table[name].to_numpy() for name in table.column_names}
        ranks = {name.removeprefix("rank|"): c for name, c in columns.items() if name.startswith("rank|")}
        values = {name: c for name, c in columns.items() if not name.startswith("rank|")}
        return cls(ranks, values, tuple(metrics))


def infer_ranks(columns: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Ranks behind single-target metrics, from NDCG or MRR at the largest cut-off; None without either."""
    for kind, back in (("ndcg", lambda x: np.exp2(1.0 / x) - 1.0), ("mrr", lambda x: 1.0 / x)):
        cutoffs = [split_metric(name)[1] for name in columns if split_metric(name)[0] == kind]
        if cutoffs:
            value = np.asarray(columns[f"{kind}@{max(cutoffs)}"], dtype=np.float64)
            found = (value > 0) & (value <= 1)
            place = np.where(found, back(np.where(found, value, 1.0)), 0.0)
            return _small(np.minimum(np.rint(place), max(cutoffs) + 1))
    return None


def _same(columns: Mapping[str, np.ndarray], rank: np.ndarray) -> bool:
    """Whether ranks give back every column exactly, in the column's own precision."""
    try:
        return all(
            np.array_equal(metric_of_rank(name, rank).astype(column.dtype), column)
            for name, column in columns.items()
        )
    except KeyError:
        return False


def _small(rank: np.ndarray) -> np.ndarray:
    """Ranks in the smallest unsigned type that holds them."""
    top = int(rank.max()) if rank.size else 0
    return rank.astype(np.uint8 if top < 256 else np.uint16 if top < 65536 else np.uint32)
