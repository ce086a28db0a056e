"""Trials: cells that a sweep trained and judged on the validation part alone.

`<store>/trials/<dataset>/<model>/<key>.json` holds what every sweep may use again: finished trials, and
those whose training diverged. `<store>/sweeps/<sweep>/<key>.json` is the journal of one search: there a
trial is also `started`, with its epochs so far, or `pruned`, which only that search may take for an end.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import FiniteFloat, JsonValue, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from recbole_llmgraph.base.files import write_json
from recbole_llmgraph.base.settings import Settings
from recbole_llmgraph.store.record import Code, Key, Mask, Means, Name
from recbole_llmgraph.store.runs import folder_name

Status = Literal["started", "pruned", "diverged", "finished"]
#: Value of each axis of a sweep, by the axis's name.
Point = dict[str, JsonValue]


class Epoch(Settings):
    """One validation during training."""

    epoch: PositiveInt
    valid: FiniteFloat
    """The trial's `metric`, under its mask."""
    seconds: NonNegativeFloat
    """Wall seconds since the validation before, training and validating."""


class Trial(Settings):
    """What a sweep knows of one cell; nothing in it has seen the test part."""

    schema_version: Literal[1] = 1
    key: Key
    """Key of the cell: a run of the same cell has the same one."""
    point: Point
    model: Name
    dataset: Name
    protocol: Name
    preset: Name
    seed: int
    mask: Mask
    metric: Name
    """Metric that picked the epoch."""
    status: Status
    why: str = ""
    """Why it diverged."""
    history: list[Epoch] = []
    valid: dict[Mask, Means] = {}
    """Validation means of the kept weights; only of a finished trial."""
    epochs_planned: PositiveInt
    epochs_run: NonNegativeInt = 0
    best_epoch: NonNegativeInt = 0
    seconds: NonNegativeFloat = 0.0
    """Wall seconds in training and validation, over all sittings, stages apart."""
    seconds_per_epoch: NonNegativeFloat | None = None
    """Mean training seconds of an epoch, validation apart."""
    parameters: NonNegativeInt | None = None
    split_fingerprint: str = ""
    candidates: NonNegativeInt | None = None
    backbone: str | None = None
    settings: dict[str, JsonValue] = {}
    machine: str = ""
    code: Code | None = None
    finished: str = ""
    """ISO 8601, UTC."""

    @property
    def score(self) -> float | None:
        """The kept weights' `metric`; None before the end."""
        return self.valid.get(self.mask, {}).get(self.metric)

    @property
    def final(self) -> bool:
        """Whether the search that wrote it is done with it."""
        return self.status != "started"


class TrialStore:
    """Trials of a store that any sweep may use."""

    def __init__(self, root: Path) -> None:
        """Args: the store's folder."""
        self.root = Path(root) / "trials"

    def _path(self, dataset: str, model: str, key: str) -> Path:
        return self.root / folder_name(dataset) / folder_name(model) / f"{key}.json"

    def find(self, dataset: str, model: str, key: str) -> Trial | None:
        """A finished or diverged trial; None when there is none or its file is broken."""
        return _read(self._path(dataset, model, key))

    def write(self, trial: Trial) -> None:
        """Keep a trial, whole or not at all.

        Raises:
            ValueError: for one that ended in a search's eyes only.
        """
        if trial.status not in ("finished", "diverged"):
            raise ValueError(f"a {trial.status} trial belongs into its sweep's journal")
        _write(self._path(trial.dataset, trial.model, trial.key), trial)

    def forget(self, dataset: str, model: str, key: str) -> None:
        """Drop a trial, so that it is run again."""
        self._path(dataset, model, key).unlink(missing_ok=True)


class Journal:
    """All trials that one search has begun, by the key of their cell."""

    def __init__(self, root: Path, sweep: str) -> None:
        """Args: the store's folder and the sweep's own name."""
        self.root = Path(root) / "sweeps" / sweep

    def find(self, key: str) -> Trial | None:
        """What the search knows of a cell; None when it never began it."""
        return _read(self.root / f"{key}.json")

    def write(self, trial: Trial) -> None:
        """Note the state of a trial."""
        _write(self.root / f"{trial.key}.json", trial)

    def __iter__(self) -> Iterator[Trial]:
        """All trials, by key; broken files are passed over, so that they are run again."""
        found = (_read(path) for path in sorted(self.root.glob("*.json")))
        return (trial for trial in found if trial is not None)


def _read(path: Path) -> Trial | None:
    try:
        return Trial(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, ValidationError):
        return None


def _write(path: Path, trial: Trial) -> None:
    write_json(path, trial.model_dump(mode="json"))
