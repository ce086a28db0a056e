"""A sweep as one file: what was asked and every trial, from which all of its figures are drawn."""

import json
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import JsonValue, NonNegativeFloat, PositiveInt, ValidationError

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import write_json
from recbole_llmgraph.base.settings import Settings
from recbole_llmgraph.store.record import Means, Name
from recbole_llmgraph.store.trials import Point, Trial

#: File in a sweep's folder.
SWEEP = "sweep.json"
Purpose = Literal["figure", "tune"]


class Halving(Settings):
    """How ASHA prunes: of the trials that reach a rung, one in `factor` goes on."""

    grace: PositiveInt
    """Epochs before the first rung."""
    factor: PositiveInt


class Chosen(Settings):
    """The setting that a search chose on validation, and the one look at the test part."""

    point: Point
    valid: float
    """Validation score that chose it."""
    keys: list[str] = []
    """Runs of the chosen setting, one a seed; none before the look."""
    test: Means = {}
    """Test means over these runs, under the selection mask."""


class Sweep(Settings):
    """One sweep and its trials.

    `panels` are the axes drawn together: one for a curve, two for a heat map. A search has one panel
    with all of its axes.
    """

    schema_version: Literal[1] = 1
    name: Name
    purpose: Purpose
    search: Literal["grid", "random", "optuna"]
    model: Name
    datasets: list[Name]
    seeds: list[int]
    panels: list[list[str]]
    ticks: dict[str, list[JsonValue]]
    """Values tried or, for a range, its two ends."""
    base: dict[str, Point]
    """By dataset: the preset's own value of each axis."""
    settings: dict[str, dict[str, JsonValue]] = {}
    """By dataset: every setting where nothing is swept."""
    metrics: list[Name]
    halving: Halving | None = None
    chosen: Chosen | None = None
    importance: dict[str, float] = {}
    """Share of the score's variance that each axis explains, where a search has enough trials to say."""
    minutes: NonNegativeFloat | None = None
    """Limit of the search."""
    command: str = ""
    made: bool = False
    """Invented data, to show what figures look like."""
    trials: list[Trial]

    def write(self, folder: Path) -> Path:
        """Write `sweep.json`; equal sweeps give equal bytes.

        Trials leave out their settings: those of the sweep, with their point, say the same.
        """
        ordered = [trial.model_copy(update={"settings": {}}) for trial in sorted(self.trials, key=_place)]
        path = folder / SWEEP
        plain = self.model_copy(update={"trials": ordered}).model_dump(mode="json", exclude_defaults=True)
        write_json(path, plain)
        return path

    def frame(self) -> pd.DataFrame:
        """One row a trial: `dataset seed key status order seconds seconds_per_epoch parameters epochs_run
        score`, the axes under their own names, and every validation metric under the trial's mask (NaN
        where a trial has not finished). `order` counts trials by the time they ended.
        """
        ends = sorted(self.trials, key=lambda trial: (trial.finished, trial.key))
        order = {id(trial): place for place, trial in enumerate(ends, start=1)}
        rows = [_row(trial, order[id(trial)]) for trial in sorted(self.trials, key=_place)]
        return pd.DataFrame(rows)

    @property
    def axes(self) -> list[str]:
        """Every axis once, in the order of the panels."""
        return list(dict.fromkeys(axis for panel in self.panels for axis in panel))


def read_sweep(folder: Path) -> Sweep:
    """Read a sweep's folder.

    Raises:
        UserError: when there is none, or the file is no sweep.
    """
    path = folder / SWEEP
    try:
        return Sweep(**json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise UserError(f"{folder}: no {SWEEP} here; name the folder of a finished sweep") from None
    except (ValueError, TypeError, ValidationError) as error:
        raise UserError(f"{path}: not a sweep ({str(error).splitlines()[0]})") from None


def _place(trial: Trial) -> tuple[str, str, int, str]:
    return trial.dataset, json.dumps(trial.point, sort_keys=True), trial.seed, trial.key


def _row(trial: Trial, order: int) -> dict[str, Any]:
    names = ("dataset", "seed", "key", "status", "seconds", "seconds_per_epoch", "parameters", "epochs_run")
    best = max((entry.valid for entry in trial.history), default=float("nan"))
    return {
        **{name: getattr(trial, name) for name in names},
        "order": order,
        "score": best if trial.score is None else trial.score,
        **trial.point,
        **trial.valid.get(trial.mask, {}),
    }
