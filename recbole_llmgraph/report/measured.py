"""Which run of the store stands beside a published row, or decides a claim.

Rows of preset `quick` never do. Among several runs of one model, the one that validated best speaks:
a test number is never a reason to choose.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from recbole_llmgraph.base.files import read_yaml
from recbole_llmgraph.data.catalogue import properties_folder
from recbole_llmgraph.report.leaderboard import ORDER_BY, Leaderboard, seed_interval

#: Presets that may stand beside published numbers, best first.
PRESETS = ("paper", "standard")


@dataclass(frozen=True)
class Asked:
    """A model, and the settings by which it must differ from the whole model."""

    model: str
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """`HeLLMPre` or `HeLLMPre (use_u2u=false)`."""
        told = ", ".join(f"{key}={json.dumps(value)}" for key, value in self.settings.items())
        return f"{self.model} ({told})" if told else self.model


@dataclass(frozen=True)
class Measured:
    """A row of a leaderboard that answers to what was asked."""

    board: Leaderboard
    row: Mapping[Any, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of the row."""
        return _parsed(self.row["settings"])

    def values(self, metric: str, seeds: Sequence[int] | None = None) -> np.ndarray:
        """The metric of each seed, or of the given ones; NaN where a run does not have it. `[seeds]`"""
        runs = self.board.runs
        own = runs[runs["key"].isin(self.row["keys"])].sort_values("seed")
        own = own if seeds is None else own[own["seed"].isin(seeds)]
        return np.asarray(own[metric] if metric in own else [np.nan] * len(own), dtype=np.float64)

    def mean(self, metric: str) -> float:
        """Mean over seeds."""
        return float(self.values(metric).mean())

    def half(self, metric: str) -> float:
        """Half of the 95 % interval over seeds; NaN for one."""
        return seed_interval(self.values(metric))

    @property
    def validated(self) -> float:
        """What the choice among runs goes by; the smallest number where it was not measured."""
        value = self.mean(f"valid {ORDER_BY}")
        return -np.inf if np.isnan(value) else value


@cache
def whole_models() -> dict[str, dict[str, Any]]:
    """Settings that leave a model whole, by model (`properties/whole.yaml`)."""
    return read_yaml(properties_folder() / "whole.yaml")


def answers(asked: Asked, model: str, settings: Mapping[str, Any]) -> bool:
    """Whether a run of `model` with these settings is what was asked."""
    if model != asked.model or not set(asked.settings) <= set(settings):
        return False
    whole = {**whole_models().get(model, {}), **asked.settings}
    return all(_fits(settings[key], value) for key, value in whole.items() if key in settings)


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a setting is as wanted: equal, or not matching `{not: pattern}`."""
    if isinstance(wanted, dict) and set(wanted) == {"not"}:
        return not re.match(wanted["not"], str(value))
    return bool(value == wanted)


def find(
    boards: Sequence[Leaderboard], dataset: str, protocol: str, mask: str, asked: Asked
) -> Measured | None:
    """The row that answers, of the best preset; of several, the one that validated best."""
    for board in _boards(boards, dataset, protocol, mask):
        if found := _rows(board, asked):
            return max(found, key=_preference)
    return None


def find_pair(
    boards: Sequence[Leaderboard], dataset: str, protocol: str, mask: str, pair: tuple[Asked, Asked]
) -> tuple[Measured, Measured] | None:
    """Two rows of one table. Of one model, they differ in nothing but what was asked."""
    named = {*pair[0].settings, *pair[1].settings}
    for board in _boards(boards, dataset, protocol, mask):
        found = list(product(_rows(board, pair[0]), _rows(board, pair[1])))
        if pair[0].model == pair[1].model:
            found = [two for two in found if _alike(two[0].settings, two[1].settings, named)]
        if found:
            return max(found, key=lambda two: (_preference(two[0]), _preference(two[1])))
    return None


def _preference(found: Measured) -> tuple[float, str]:
    """By validation, then by key, so that the choice is the same every time."""
    return found.validated, str(found.row["keys"][0])


def _boards(boards: Sequence[Leaderboard], dataset: str, protocol: str, mask: str) -> Iterator[Leaderboard]:
    """Tables that may be asked, in the order of their presets."""
    for preset in PRESETS:
        for board in boards:
            if (board.dataset, board.protocol, board.mask, board.preset) == (dataset, protocol, mask, preset):
                yield board


def _rows(board: Leaderboard, asked: Asked) -> list[Measured]:
    """Rows of a table that answer."""
    named = (board.rows["model"] == asked.model).to_numpy()
    if not named.any():  # most tables do not have most models, and slicing wide frames takes its time
        return []
    return [
        Measured(board, row)
        for row in board.rows[named].to_dict("records")
        if answers(asked, row["model"], _parsed(row["settings"]))
    ]


@cache
def _parsed(text: str) -> dict[str, Any]:
    """Settings of a row; the same few texts are asked for many times."""
    found: dict[str, Any] = json.loads(text)
    return found


def _alike(a: Mapping[str, Any], b: Mapping[str, Any], named: set[str]) -> bool:
    """Whether two groups of settings agree but for the named ones; one that only one knows says nothing."""
    return all(a[key] == b[key] for key in ({*a} & {*b}) - named)
