"""Runs to leaderboards: a pure function from data frame to data frames.

Rows stand in one table only when they may be compared: same dataset, protocol, mask, split,
candidate set and preset.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

#: Columns that all rows of a table share.
SHARED = ("dataset", "protocol", "mask", "split_fingerprint", "candidates", "preset")
#: Metrics that a table shows, in this order.
METRICS = ("recall@10", "ndcg@10", "recall@20", "ndcg@20")
#: Shown as well where users have several test items.
PRECISION = ("precision@10", "precision@20")
#: Shown instead where a protocol was published with other cut-offs.
PUBLISHED = {
    "rate": (*(f"{kind}@{k}" for k in (5, 10, 15, 20) for kind in ("precision", "recall")), "ndcg@10"),
}
_ALL = tuple(dict.fromkeys((*METRICS, *PRECISION, *(name for own in PUBLISHED.values() for name in own))))
#: Metric by which rows are ordered and the leader is named.
ORDER_BY = "ndcg@10"
#: Costs that are averaged over seeds.
COSTS = (
    "parameters_total",
    "parameters_trained",
    "epochs_run",
    "best_epoch",
    "seconds_per_epoch",
    "seconds_to_best",
    "seconds_total",
    "eval_users_per_second",
    "peak_memory_mb",
    "peak_gpu_memory_mb",
    "tokens_in",
    "tokens_out",
    "money",
)
#: Shortest part of a key that a table shows; longer where two keys begin alike.
KEY_LENGTH = 8
#: One run under one mask, as a row of the frame.
Run = Mapping[Hashable, Any]


@dataclass(frozen=True)
class Leaderboard:
    """One table.

    Attributes:
        dataset, protocol, mask, split_fingerprint, candidates, preset: what all rows share;
            `candidates` is the number of items ranked, None where runs do not say.
        test_users: users behind every mean, None where runs do not say.
        single_target: one test item a user, so that Recall is the hit rate; None where unknown.
        rows: one row a model, variant and group of settings; columns `model variant backbone
            text_encoder budget seeds keys folders code machine selection_mask notes stages`, metrics, their
            95 % half-widths over seeds as `<metric> ±` (NaN for one seed), and `COSTS`.
        runs: the runs behind the rows.
    """

    dataset: str
    protocol: str
    mask: str
    split_fingerprint: str
    candidates: int | None
    preset: str
    test_users: int | None
    single_target: bool | None
    rows: pd.DataFrame
    runs: pd.DataFrame

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that the table shows; with one test item a user, precision says what recall says."""
        several = self.single_target is False
        protocol = self.protocol.partition("@")[0]
        if several and protocol in PUBLISHED:
            return PUBLISHED[protocol]
        return METRICS + tuple(name for name in PRECISION if several and self.rows[name].notna().any())

    def missing(self, models: Iterable[str]) -> list[str]:
        """Models without a row, in the order given (an outside `module:Class` is stored as `Class`).

        `SGL@sign` asks for SGL in tables of the protocol `sign` alone.
        """
        there, asked = set(self.rows["model"]), []
        for model in models:
            name, _, protocol = model.partition("@")
            if not (protocol and self.protocol) or protocol == self.protocol:
                asked.append(name)
        return [name for name in dict.fromkeys(asked) if name.rpartition(":")[2] not in there]


def leaderboards(runs: pd.DataFrame) -> list[Leaderboard]:
    """All tables of a frame made by `store.frame.runs_frame`.

    Sorted by dataset, protocol, preset, split and mask, the selection mask of the runs first.
    """
    boards = []
    for shared, part in runs.groupby(list(SHARED), dropna=False, sort=True):
        names: dict[str, Any] = dict(zip(SHARED, shared, strict=True))
        names["candidates"] = _whole(names["candidates"])
        told = part["single_target"]
        boards.append(
            Leaderboard(
                **names,
                test_users=_whole(part["test_users"].max()),
                single_target=None if told.isna().any() else bool(told.all()),
                rows=_rows(part),
                runs=part.reset_index(drop=True),
            )
        )
    return sorted(boards, key=_board_order)


def empty_leaderboard(dataset: str, protocol: str, preset: str, mask: str) -> Leaderboard:
    """A table without rows, for cells that were asked for where nothing was run."""
    runs = pd.DataFrame(columns=[*SHARED])
    return Leaderboard(dataset, protocol, mask, "", None, preset, None, None, _frame([]), runs)


def seed_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> float:
    """Half-width of the t-interval of a mean over seeds; NaN for fewer than two.

    t_{(1+level)/2, n−1} · s / √n with the sample deviation s.
    """
    sample = np.asarray(values, dtype=np.float64)
    n = len(sample)
    if n < 2 or np.isnan(sample).any():
        return float("nan")
    from scipy.special import stdtrit  # a fifth of a second that most tables need not pay

    return float(stdtrit(n - 1, (1 + level) / 2) * sample.std(ddof=1) / np.sqrt(n))


def _rows(part: pd.DataFrame) -> pd.DataFrame:
    """One row a group of runs that differ only in their seed, best first."""
    runs = part.sort_values(["model", "variant", "group", "seed", "key"]).to_dict("records")
    names = [(run["model"], run["variant"], run["group"]) for run in runs]
    times = Counter((*name, run["seed"]) for name, run in zip(names, runs, strict=True))
    unclear = {name[:3] for name, found in times.items() if found > 1}
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for name, run in zip(names, runs, strict=True):
        # twice the same seed (a dataset prepared anew, say): no telling which belong together, so none do
        own = run["key"] if name in unclear else ""
        groups.setdefault((*name, own), []).append(run)
    rows = [_row(group) for group in groups.values()]
    return _frame(sorted(rows, key=_row_order))


def _row_order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Best first; rows without the metric last."""
    score = row[ORDER_BY]
    return np.isnan(score), -score, row["model"], row["variant"], row["keys"]


def _row(group: list[Run]) -> dict[str, Any]:
    """One row: means over seeds, and what the seeds share."""
    shared = ("model", "variant", "group", "settings", "selection_mask", "backbone", "text_encoder", "budget")
    row: dict[str, Any] = {name: _known(group[0][name]) for name in shared}
    row |= {f"{name}s": tuple(run[name] for run in group) for name in ("seed", "key", "folder")}
    for name in ("code", "machine"):
        row[name] = ", ".join(sorted({run[name] for run in group}))
    for name in ("notes", "stages"):
        row[name] = tuple(dict.fromkeys(value for run in group for value in run[name]))
    for metric in _ALL:
        values = np.array([run.get(metric, np.nan) for run in group], dtype=np.float64)
        row |= {metric: float(values.mean()), f"{metric} ±": seed_interval(values)}
    for cost in COSTS:
        row[cost] = float(np.mean([np.nan if run[cost] is None else float(run[cost]) for run in group]))
    return row


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows with every column, also when there are none."""
    text = ("model", "variant", "group", "settings", "selection_mask", "backbone", "text_encoder", "budget")
    lists = ("seeds", "keys", "folders", "code", "machine", "notes", "stages")
    numbers = [name for metric in _ALL for name in (metric, f"{metric} ±")] + list(COSTS)
    frame = pd.DataFrame(rows, columns=[*text, *lists, *numbers])
    return frame.astype(dict.fromkeys(numbers, np.float64))


def _known(value: Any) -> Any:
    """The value, or None where pandas marks it missing."""
    return None if pd.isna(value) else value


def _whole(value: Any) -> int | None:
    """A count, or None where it is missing."""
    return None if value is None or pd.isna(value) else int(value)


def _board_order(board: Leaderboard) -> tuple[Any, ...]:
    """Presets from the longest training to the shortest; the mask that selection used stands first."""
    selected = board.mask in set(board.rows["selection_mask"])
    presets = {"paper": 1, "standard": 0, "quick": 2}
    place = presets.get(board.preset, 3), board.preset
    split = board.split_fingerprint, board.candidates or 0
    return board.dataset, board.protocol, place, split, not selected, board.mask
