"""Sweeps for a figure: every tick, every seed, an equal budget, nothing pruned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray import tune

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.store.trials import Point, Trial, TrialStore
from recbole_llmgraph.suite.cell import Cell
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.ray_jobs import Result, run_jobs, until_ended
from recbole_llmgraph.suite.ray_pool import Pool, opened
from recbole_llmgraph.suite.run import Runner
from recbole_llmgraph.suite.sweep.jobs import TrialWork, point_text
from recbole_llmgraph.suite.sweep.plan import Place, grid
from recbole_llmgraph.suite.sweep.trial import find_trial


@dataclass(frozen=True)
class Tick:
    """One point of the figure with one seed."""

    dataset: str
    point: Point
    seed: int
    cell: Cell
    key: str

    @property
    def label(self) -> str:
        """For a line on the terminal."""
        return f"{self.dataset} {point_text(self.point)} seed {self.seed}"

    def trial(self, house: House) -> Trial | None:
        """Its trial, where it has ended."""
        return find_trial(house, self.cell, self.key, self.point)


def ticks(house: House, places: Mapping[str, Place], seeds: Sequence[int]) -> list[Tick]:
    """Everything that a figure shows; reads the prepared datasets, trains nothing."""
    runner = Runner(house)
    found = []
    for dataset, place in places.items():
        for point in grid(place.panels):
            for seed in seeds:
                cell = place.cell(point, seed)
                found.append(Tick(dataset, point, seed, cell, runner.key(cell)))
    return found


def run_figure(
    house: House,
    pool: Pool,
    places: Mapping[str, Place],
    seeds: Sequence[int],
    *,
    rerun: str = "missing",
    minutes: float | None = None,
) -> list[Trial]:
    """Trials of every tick; those that any sweep or run has finished are not run again.

    Args:
        house: folders.
        pool: where to run.
        places: by dataset.
        seeds: of every tick.
        rerun: `never` runs nothing, `always` first forgets what sweeps have kept.
        minutes: stop after so long; the same command goes on.

    Raises:
        UserError: when nothing is finished, or trials were lost with their nodes too often.
    """
    wanted = ticks(house, places, seeds)
    if rerun == "always":
        for tick in wanted:
            TrialStore(house.store).forget(tick.dataset, tick.cell.model.name, tick.key)
    todo = {tick.key: tick for tick in wanted if tick.trial(house) is None}
    ended = len(wanted) - sum(tick.key in todo for tick in wanted)
    say(f"{len(wanted)} trials, {ended} finished already, {len(todo)} to run")
    if todo and rerun != "never":
        _run(house.absolute(), pool, places, list(todo.values()), minutes)
    found = [tick.trial(house) for tick in wanted]
    missing = [tick.label for tick, trial in zip(wanted, found, strict=True) if trial is None]
    if missing:
        say(f"not run: {'; '.join(missing)}")
    if len(missing) == len(wanted) or (missing and not minutes and rerun != "never"):
        raise UserError(f"{len(missing)} of {len(wanted)} trials did not finish; the same command goes on")
    return [trial for trial in found if trial is not None]


def _run(
    house: House, pool: Pool, places: Mapping[str, Place], todo: Sequence[Tick], minutes: float | None
) -> None:
    work = TrialWork(house, places, seed=0)
    scratch = house.store / "work" / "ray" / f"figure-{min(tick.key for tick in todo)}"

    def once(left: float | None) -> Sequence[Result]:
        missing = [tick for tick in todo if tick.trial(house) is None]
        configs = [{"dataset": tick.dataset, "point": tick.point, "seed": tick.seed} for tick in missing]
        space = {"job": tune.grid_search(configs)}
        return (
            run_jobs(pool, work, space, total=len(configs), scratch=scratch, minutes=left) if configs else []
        )

    with opened(pool):
        until_ended(once, minutes)
