"""Searches: ASHA prunes on validation, and the test part is opened once, for the chosen setting."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from ray import tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.hashing import hash_data
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.store.sweeps import Halving
from recbole_llmgraph.store.trials import Journal, Point, Trial, TrialStore
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.ray_jobs import Result, run_jobs, until_ended
from recbole_llmgraph.suite.ray_pool import Pool, opened
from recbole_llmgraph.suite.run import Runner
from recbole_llmgraph.suite.sweep.axes import Axis, points
from recbole_llmgraph.suite.sweep.jobs import TrialWork
from recbole_llmgraph.suite.sweep.plan import Place
from recbole_llmgraph.suite.sweep.trial import find_trial

SearchName = Literal["grid", "random", "optuna"]


@dataclass(frozen=True)
class Search:
    """A search over all axes of a place.

    Attributes:
        house: folders, absolute.
        place: model, dataset, settings, axes.
        how: which points are tried.
        draws: number of points, of `random` and `optuna`.
        seed: of every trial and of the draws.
        halving: when to prune.
    """

    house: House
    place: Place
    how: SearchName
    draws: int
    seed: int
    halving: Halving
    name: str = field(init=False)

    def __post_init__(self) -> None:
        """Name the journal by all that decides which trials there are and when one is pruned."""
        identity = {
            "cell": Runner(self.house).key(self.place.cell({}, self.seed)),
            "axes": [axis.told() for axis in self.axes],
            "how": [self.how, self.draws if self.how != "grid" else 0],
            "halving": self.halving.model_dump(),
        }
        name = f"{self.place.model.name}-{self.place.dataset.name}-{hash_data(identity)}"
        object.__setattr__(self, "name", name)

    @property
    def axes(self) -> list[Axis]:
        """All axes; a search crosses them."""
        found = [axis for panel in self.place.panels for axis in panel]
        return list({axis.label: axis for axis in found}.values())

    @property
    def journal(self) -> Journal:
        """Its trials so far."""
        return Journal(self.house.store, self.name)

    @property
    def work(self) -> TrialWork:
        """What a job does."""
        return TrialWork(self.house, {self.place.dataset.name: self.place}, self.seed, self.name)

    def run(self, pool: Pool, minutes: float | None = None) -> list[Trial]:
        """Every trial of the search that has ended; what an earlier sitting ended is not run again."""
        once = self._drawn if self.how == "optuna" else self._listed
        until_ended(lambda left: once(pool, left), minutes)
        return [trial for trial in self.journal if trial.final]

    def _listed(self, pool: Pool, minutes: float | None) -> Sequence[Result]:
        """Points known beforehand."""
        runner, todo = Runner(self.house), {}
        every = self.points()
        for point in every:
            cell = self.place.cell(point, self.seed)
            key = runner.key(cell)
            known = self.journal.find(key)
            if known is not None and known.final:
                continue
            found = find_trial(self.house, cell, key, point)
            if found is not None:  # by another sweep, or as a run
                self.journal.write(found)
                continue
            todo[key] = {"dataset": self.place.dataset.name, "point": point, "seed": self.seed}
        say(f"{len(every)} trials, {len(every) - len(todo)} ended already, {len(todo)} to run")
        if not todo:
            return []
        halver = self.halver([trial for trial in self.journal if trial.final])
        space = {"job": tune.grid_search(list(todo.values()))}
        return self._jobs(pool, space, total=len(todo), scheduler=halver, minutes=minutes)

    def _drawn(self, pool: Pool, minutes: float | None) -> Sequence[Result]:
        """Points that Optuna draws one after the other, those of an earlier sitting told or tried first."""
        try:
            import optuna
            from ray.tune.search.optuna import OptunaSearch
        except ImportError:
            raise UserError(
                "--search optuna: not installed; pip install 'recbole_llmgraph[sweep]', or --search random"
            ) from None
        ended = [trial for trial in self.journal if trial.final]
        begun = [trial for trial in self.journal if not trial.final]
        left = max(0, self.draws - len(ended))
        say(f"{self.draws} trials, {len(ended)} ended already, {left} to run")
        if not left:
            return []
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        searcher = OptunaSearch(
            {axis.label: domain(axis) for axis in self.axes},
            metric="valid",
            mode="max",
            points_to_evaluate=[dict(trial.point) for trial in begun][:left] or None,
            # another seed in every sitting, or it would draw the points of the first one again
            sampler=optuna.samplers.TPESampler(seed=self.seed + 7919 * len(ended)),
        )
        for trial in ended:
            searcher.add_evaluated_point(dict(trial.point), best_so_far(trial))
        halver = self.halver(ended)
        return self._jobs(
            pool, {}, total=left, num_samples=left, scheduler=halver, search_alg=searcher, minutes=minutes
        )

    def _jobs(self, pool: Pool, space: dict[str, Any], **more: Any) -> Sequence[Result]:
        scratch = self.house.store / "work" / "ray" / self.name
        with opened(pool):
            return run_jobs(pool, self.work, space, scratch=scratch, **more)

    def points(self) -> list[Point]:
        """The grid, or draws without repetition from a generator that the seed alone decides."""
        axes = self.axes
        if self.how == "grid":
            return points(axes)
        dice = np.random.default_rng(self.seed)
        domains = {axis.label: domain(axis) for axis in axes}
        found: list[Point] = []
        for _ in range(self.draws * 50):
            point = {label: _plain(known.sample(random_state=dice)) for label, known in domains.items()}
            if point not in found:
                found.append(point)
            if len(found) == self.draws:
                break
        return found

    def halver(self, ended: Sequence[Trial]) -> "Halver":
        """ASHA, told of trials that ended in an earlier sitting."""
        epochs = self.place.cell({}, self.seed).settings.epochs
        halver = Halver(self.journal, self.halving, max(1, epochs - 1))
        for trial in ended:
            halver.remember(trial)
        return halver

    def forget(self) -> None:
        """Begin anew: drop the journal, and what sweeps have kept of its trials."""
        for trial in self.journal:
            TrialStore(self.house.store).forget(trial.dataset, trial.model, trial.key)
        shutil.rmtree(self.journal.root, ignore_errors=True)

    def tidy(self) -> None:
        """Drop the checkpoints that were kept for the choice."""
        for trial in self.journal:
            if trial.final:
                work = self.house.work(trial.dataset, trial.model, trial.key)
                shutil.rmtree(work, ignore_errors=True)


class Halver(ASHAScheduler):
    """ASHA over epochs that notes in the journal whom it stopped.

    It never stops a trial at its last epoch: all is paid for by then.
    """

    def __init__(self, journal: Journal, halving: Halving, last: int) -> None:
        """Args: journal to note in; rungs; the last epoch at which a stop saves anything."""
        super().__init__(
            time_attr="epoch",
            metric="valid",
            mode="max",
            max_t=last,
            grace_period=min(halving.grace, last),
            reduction_factor=halving.factor,
            stop_last_trials=False,
        )
        self.journal = journal

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Result) -> str:
        """Go on or stop."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if result.get("ended"):
            return str(TrialScheduler.CONTINUE)
        if decision == TrialScheduler.STOP:
            known = self.journal.find(result["key"])
            if known is not None:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                self.journal.write(known.model_copy(update={"status": "pruned", "finished": now}))
        return decision

    def remember(self, trial: Trial) -> None:
        """Fill the rungs with what a trial of an earlier sitting reached."""
        stand_in: Any = SimpleNamespace(trial_id=trial.key)
        nobody: Any = None  # neither method asks its controller anything
        super().on_trial_add(nobody, stand_in)
        best = 0.0
        for entry in trial.history:
            best = max(best, entry.valid)
            super().on_trial_result(nobody, stand_in, {"epoch": entry.epoch, "valid": best})


def domain(axis: Axis) -> Any:
    """What Ray draws a value of an axis from."""
    if not axis.ranged:
        return tune.choice(list(axis.ticks))
    low, high = axis.ticks
    if axis.whole:
        return tune.lograndint(low, high + 1) if axis.log else tune.randint(low, high + 1)
    return tune.loguniform(low, high) if axis.log else tune.uniform(low, high)


def _plain(value: Any) -> Any:
    """A drawn value as plain data; real numbers to four digits, as tables print them."""
    if isinstance(value, np.generic):
        value = value.item()
    return float(f"{value:.4g}") if isinstance(value, float) else value


def best_so_far(trial: Trial) -> float:
    """Score of a trial, however it ended."""
    best = max((entry.valid for entry in trial.history), default=0.0)
    return best if trial.score is None else trial.score


def choose(trials: Sequence[Trial]) -> Trial:
    """The finished trial with the best validation score.

    Raises:
        UserError: when none has finished.
    """
    finished = [trial for trial in trials if trial.score is not None]
    if not finished:
        raise UserError("no trial has finished; the same command goes on, or give it more --max-minutes")
    return max(finished, key=lambda trial: (best_so_far(trial), trial.key))
