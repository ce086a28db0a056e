"""One trial: a cell trained to the end and judged on its validation part, the test part unopened."""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recbole_llmgraph.store.epochs import number, read_epochs
from recbole_llmgraph.store.frame import machine
from recbole_llmgraph.store.record import Code, RunRecord
from recbole_llmgraph.store.trials import Epoch, Journal, Point, Trial, TrialStore
from recbole_llmgraph.suite.cell import Cell, selection_mask
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.measure import code_version, environment, parameter_counts
from recbole_llmgraph.suite.row import Fitted, cost_of
from recbole_llmgraph.suite.run import Runner

#: Called with the trial after every validation; a search hears of it here.
Report = Callable[[Trial], None]


def find_trial(house: House, cell: Cell, key: str, point: Point) -> Trial | None:
    """A trial of this cell that is finished already: by any sweep, or as a run."""
    found = TrialStore(house.store).find(cell.dataset.name, cell.model.name, key)
    if found is None:
        run = house.find(cell.dataset.name, cell.model.name, key)
        if run is None or not run.metrics.get("valid"):
            return None
        found = _of_run(run, house, cell)
    return found.model_copy(update={"point": point})


@dataclass
class Attempt:
    """Trains one cell as a trial.

    Attributes:
        house: folders.
        cell: what to train.
        key: its key.
        point: where it lies on the sweep's axes.
        journal: of a search; its epochs from an earlier sitting are reported again.
        keep: leave the checkpoint, so that a run of the same cell need not train again.
    """

    house: House
    cell: Cell
    key: str
    point: Point
    journal: Journal | None = None
    keep: bool = False
    history: list[Epoch] = field(default_factory=list)

    def run(self, report: Report) -> Trial:
        """Train, or go on; finished and diverged trials are kept in the store."""
        self.report = report
        self._replay()
        Runner(self.house).provide(self.cell.selecting)  # stages first: their epochs are not this trial's
        names = self.cell.dataset.name, self.cell.model.name, self.key
        with self.house.alone(*names):
            trial = self._ended() or self._train()
        self._note(trial)
        return trial

    def _ended(self) -> Trial | None:
        """The trial, where this search or another one has ended it meanwhile."""
        known = self.journal.find(self.key) if self.journal else None
        if known is not None and known.final:
            return known
        return find_trial(self.house, self.cell, self.key, self.point)

    def _replay(self) -> None:
        """Tell the search what an earlier sitting of this very trial saw."""
        before = self.journal.find(self.key) if self.journal else None
        for entry in before.history if before else []:
            self.history.append(entry)
            self.report(self._started())

    def _train(self) -> Trial:
        self._note(self._started())
        runner = Runner(self.house, on_start=self._on_start, on_epoch=self._on_epoch)
        try:
            fitted = runner.fit(self.cell, self.key)
            trial = self._finished(fitted)
        except FloatingPointError as error:
            trial = self._trial("diverged", why=str(error), finished=_now())
            shutil.rmtree(self.house.work(trial.dataset, trial.model, self.key), ignore_errors=True)
        if self.journal:  # first, so that no search forgets a trial of its own
            self._note(trial)
        TrialStore(self.house.store).write(trial)
        if not self.keep:
            shutil.rmtree(self.house.work(trial.dataset, trial.model, self.key), ignore_errors=True)
        return trial

    def _on_start(self) -> None:
        self.clock = time.perf_counter()

    def _on_epoch(self, entry: dict[str, Any]) -> None:
        if "valid" not in entry:
            return
        now = time.perf_counter()
        seconds, self.clock = now - self.clock, now
        if self.history and entry["epoch"] <= self.history[-1].epoch:  # told again after a resume
            return
        self.history.append(Epoch(epoch=entry["epoch"], valid=entry["valid"], seconds=round(seconds, 3)))
        trial = self._started()
        self._note(trial)
        self.report(trial)

    def _started(self) -> Trial:
        return self._trial("started")

    def _finished(self, fitted: Fitted) -> Trial:
        """A trained cell as a trial."""
        progress = fitted.progress
        self._recall(progress.history)
        cost = cost_of(progress, fitted.valid, time.perf_counter() - fitted.clock)
        return self._trial(
            "finished",
            valid=fitted.valid.metrics,
            epochs_run=progress.epochs_run,
            best_epoch=progress.best_epoch or progress.epochs_run,
            seconds_per_epoch=cost.seconds_per_epoch,
            parameters=parameter_counts(fitted.model)["total"],
            split_fingerprint=fitted.split.fingerprint,
            candidates=fitted.split.n_items - 1,
            backbone=getattr(fitted.model, "backbone_name", None),
            settings={
                k: v for k, v in self.cell.settings.model_dump().items() if k not in fitted.given.paths
            },
            machine=machine(cost.threads, environment()),
            finished=_now(),
        )

    def _recall(self, log: list[dict[str, Any]]) -> None:
        """Add the epochs of an earlier sitting that left no journal; their training seconds are known."""
        heard = {entry.epoch for entry in self.history}
        earlier = [entry for entry in log if "valid" in entry and entry["epoch"] not in heard]
        self.history += [
            Epoch(epoch=entry["epoch"], valid=entry["valid"], seconds=entry["seconds"]) for entry in earlier
        ]
        self.history.sort(key=lambda entry: entry.epoch)

    def _trial(self, status: Any, **more: Any) -> Trial:
        run = self.history[-1].epoch if self.history else 0
        facts = {"history": list(self.history), "epochs_run": run, "seconds": self._seconds()}
        return Trial(
            **{
                "key": self.key,
                "point": self.point,
                "status": status,
                "code": Code(**code_version()),
                **named(self.cell),
                **facts,
                **more,
            }
        )

    def _seconds(self) -> float:
        return round(math.fsum(entry.seconds for entry in self.history), 3)

    def _note(self, trial: Trial) -> None:
        if self.journal:
            self.journal.write(trial)


def named(cell: Cell) -> dict[str, Any]:
    """What every trial of a cell says of it."""
    return {
        "model": cell.model.name,
        "dataset": cell.dataset.name,
        "protocol": cell.protocol,
        "preset": cell.preset,
        "seed": cell.seed,
        "mask": selection_mask(cell),
        "metric": cell.settings.valid_metric,
        "epochs_planned": cell.settings.epochs,
    }


def _of_run(run: RunRecord, house: House, cell: Cell) -> Trial:
    """A finished run as a trial: its validation part, and its epochs where its log lies here."""
    history = _logged(house.runs.folder(run.dataset, run.model, run.key))
    seconds = (run.cost.seconds_per_epoch or 0.0) * (run.epochs_run or 0)
    return Trial(
        key=run.key,
        point={},
        **named(cell),
        status="finished",
        history=history,
        valid=run.metrics["valid"],
        epochs_run=run.epochs_run or 0,
        best_epoch=run.best_epoch or 0,
        seconds=math.fsum(e.seconds for e in history) or seconds,
        seconds_per_epoch=run.cost.seconds_per_epoch,
        parameters=run.parameters.total if run.parameters else None,
        split_fingerprint=run.split_fingerprint,
        candidates=run.candidates,
        backbone=run.backbone,
        settings=run.settings,
        machine=machine(run.cost.threads, run.environment),
        code=run.code,
        finished=run.finished,
    )


def _logged(folder: Path) -> list[Epoch]:
    """Validations in a run's log of epochs; training seconds alone are known there."""
    history, seconds = [], 0.0
    for row in read_epochs(folder):
        seconds += number(row.get("seconds")) or 0.0
        if (valid := number(row.get("valid"))) is not None:
            history.append(Epoch(epoch=int(row["epoch"]), valid=valid, seconds=seconds))
            seconds = 0.0
    return history


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
