"""Columns of a leaderboard beside its metrics: what they show, in plain text that each writer escapes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_llmgraph.report.leaderboard import KEY_LENGTH, Leaderboard

ABSENT = "–"
#: One row of a leaderboard.
Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: as tables head it.
        about: what it means, in a few words.
        value: a row's value for sorting; None where it is not known.
        text: the same as people read it, not escaped.
    """

    title: str
    about: str
    value: Callable[[Row], float | str | None]
    text: Callable[[Row], str]


def columns(board: Leaderboard) -> list[Column]:
    """Columns of a table, those left out that no row of it can fill."""
    seldom = {"peak_gpu_memory_mb", "tokens_in", "tokens_out", "money"}
    rows = board.rows
    costs = [
        _cost(name, *told)
        for name, told in _COSTS.items()
        if name not in seldom or (len(rows) and rows[name].notna().any())
    ]
    return [_SEEDS, _BACKBONE, *costs[:2], _EPOCHS, *costs[2:], _CODE]


def number(value: float | None, form: Callable[[float], str]) -> str:
    """A formatted number, or a dash for a missing one."""
    return ABSENT if value is None or np.isnan(value) else form(float(value))


def amount(value: float) -> str:
    """Three significant digits: `0.42`, `35.1`, `1,240`, `1.53M`."""
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.2f}{unit}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def count(value: float) -> str:
    """A count: whole, or with one decimal where it is a mean over seeds."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def minutes(seconds: float) -> str:
    """Seconds as minutes."""
    return amount(seconds / 60)


#: Costs by their column in the frame: title, meaning, form.
_COSTS: dict[str, tuple[str, str, Callable[[float], str]]] = {
    "parameters_total": ("parameters", "weights that the model reads, frozen ones included", amount),
    "parameters_trained": ("trained", "weights that this training changed", amount),
    "best_epoch": ("best", "epoch that validation picked", count),
    "seconds_per_epoch": ("s/epoch", "seconds of a median epoch, validation apart", amount),
    "seconds_to_best": ("min to best", "minutes to the end of the best epoch", minutes),
    "seconds_total": ("minutes", "minutes in all, earlier stages apart", minutes),
    "eval_users_per_second": ("eval users/s", "users scored and ranked a second", amount),
    "peak_memory_mb": ("peak MB", "largest resident size of the process", "{:,.0f}".format),
    "peak_gpu_memory_mb": ("GPU MB", "largest memory on the accelerator", "{:,.0f}".format),
    "tokens_in": ("tokens in", "tokens that a language model was asked with", amount),
    "tokens_out": ("tokens out", "tokens that it answered", amount),
    "money": ("US$", "paid to its provider", "{:,.2f}".format),
}

#: Settings that say how long phases before the last one are.
EARLIER_PHASES = ("pretrain_epochs", "text_epochs")


def _cost(name: str, title: str, about: str, form: Callable[[float], str]) -> Column:
    """A cost as a column."""

    def value(row: Row) -> float | None:
        found = row[name]
        return None if found is None or np.isnan(found) else float(found)

    return Column(title, about, value, lambda row: number(value(row), form))


def epochs_text(row: Row) -> str:
    """`21 of 30`: epochs run, and how many the budget allowed, earlier phases too, where the run says."""
    allowed = json.loads(row["budget"]).get("epochs")
    ran = number(row["epochs_run"], count)
    if not isinstance(allowed, int | float) or ran == ABSENT:
        return ran
    settings = json.loads(row["settings"])
    return f"{ran} of {count(allowed + sum(settings.get(name, 0) for name in EARLIER_PHASES))}"


def seeds_text(row: Row) -> str:
    """`1, 2, 3`."""
    return ", ".join(str(seed) for seed in row["seeds"])


def keys_text(row: Row) -> str:
    """Short keys."""
    return ", ".join(key[:KEY_LENGTH] for key in row["keys"])


_SEEDS = Column("seeds", "seeds behind the mean", lambda row: float(len(row["seeds"])), seeds_text)
_BACKBONE = Column(
    "backbone",
    "language model",
    lambda row: row["backbone"] or "",
    lambda row: row["backbone"] or ABSENT,
)
_EPOCHS = Column("epochs", "epochs run, of those allowed", lambda row: float(row["epochs_run"]), epochs_text)
_CODE = Column(
    "code", "version and commit; a star: changed files", lambda row: row["code"], lambda row: row["code"]
)
