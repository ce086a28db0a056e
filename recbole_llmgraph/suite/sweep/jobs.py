"""Trials as jobs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from recbole_llmgraph.store.trials import Journal, Point, Trial
from recbole_llmgraph.suite.cell import Cell
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.ray_jobs import Result
from recbole_llmgraph.suite.run import Runner
from recbole_llmgraph.suite.sweep.plan import Place
from recbole_llmgraph.suite.sweep.trial import Attempt


@dataclass(frozen=True)
class TrialWork:
    """Runs the trial that a config names.

    A config's `job` holds `dataset`, `seed` and `point`; without one it is a point itself, drawn by a
    searcher, of the only dataset and seed.

    Attributes:
        house: folders, absolute.
        places: by dataset.
        seed: of a config that names none.
        journal: name of the search, '' for a figure.
    """

    house: House
    places: Mapping[str, Place]
    seed: int
    journal: str = ""

    def __call__(self, config: dict[str, Any], report: Callable[[Result], None]) -> Result:
        """Train; the outcome is the finished trial's score."""
        cell, point = self.cell(config)
        key = Runner(self.house).key(cell)
        journal = Journal(self.house.store, self.journal) if self.journal else None
        attempt = Attempt(self.house, cell, key, point, journal, keep=bool(journal))
        return told(attempt.run(lambda trial: report(told(trial))))

    def cell(self, config: Mapping[str, Any]) -> tuple[Cell, Point]:
        """Cell and point of a config."""
        place, point, seed = self._read(config)
        return place.cell(point, seed), point

    def label(self, config: Mapping[str, Any]) -> str:
        """`tau=0.3 seed 1`, with the dataset where there are several."""
        place, point, seed = self._read(config)
        where = f"{place.dataset.name} " if len(self.places) > 1 else ""
        return f"{where}{point_text(point)} seed {seed}"

    def _read(self, config: Mapping[str, Any]) -> tuple[Place, Point, int]:
        if "job" in config:
            job = config["job"]
            return self.places[job["dataset"]], dict(job["point"]), int(job["seed"])
        return next(iter(self.places.values())), dict(config), self.seed


def told(trial: Trial) -> Result:
    """A trial as Ray hears of it. `valid` is the best score so far: these weights would be kept."""
    best = max((entry.valid for entry in trial.history), default=0.0)
    score = best if trial.score is None else trial.score
    words = {"diverged": "diverged"}.get(trial.status, f"valid {trial.metric} {score:.4f}")
    return {
        "key": trial.key,
        "valid": score,
        "epoch": max(1, trial.epochs_run),
        "told": f"epoch {trial.epochs_run}/{trial.epochs_planned}, {words}",
    }


def point_text(point: Mapping[str, Any]) -> str:
    """`tau=0.3 knn_k=5`."""
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in point.items())
