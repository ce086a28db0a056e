"""Whole cells side by side: grids of `run.py`, ablations, the seeds of a search's choice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.suite.cell import Cell
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.ray_jobs import Result, run_jobs, until_ended
from recbole_llmgraph.suite.ray_pool import Pool, opened
from recbole_llmgraph.suite.run import Runner


@dataclass(frozen=True)
class CellWork:
    """Runs the cell whose key a config names."""

    house: House
    cells: Mapping[str, Cell]
    always: bool = False

    def __call__(self, config: dict[str, Any], report: Callable[[Result], None]) -> Result:
        """Run it; what it found lies in the store."""
        Runner(self.house, always=self.always).run(self.cells[config["cell"]])
        return {"told": "finished", "done": config["cell"]}

    def label(self, config: Mapping[str, Any]) -> str:
        """`HeLLM on beauty, seed 1`."""
        return self.cells[config["cell"]].label


def run_side_by_side(runner: Runner, cells: Sequence[Cell], pool: Pool) -> None:
    """Finish cells on a pool; those that are finished already are not sent.

    Raises:
        UserError: when cells were lost with their nodes more often than they are tried again.
    """
    house = runner.house.absolute()
    keyed = {runner.key(cell): cell for cell in cells}
    todo = {k: c for k, c in keyed.items() if runner.always or not _finished(house, c, k)}
    say(f"{len(keyed)} cells, {len(keyed) - len(todo)} finished already, {len(todo)} to run")
    if not todo:
        return
    work, scratch = CellWork(house, todo, runner.always), house.store / "work" / "ray" / f"cells-{min(todo)}"
    asked = set(todo)

    def once(left: float | None) -> Sequence[Result]:
        if not asked:
            return []
        results = run_jobs(
            pool, work, {"cell": tune.grid_search(sorted(asked))}, total=len(asked), scratch=scratch
        )
        asked.difference_update(result["done"] for result in results if "done" in result)
        return results

    with opened(pool):
        until_ended(once, None)
    lost = [cell.label for key, cell in todo.items() if not _finished(house, cell, key)]
    if lost:
        raise UserError(f"not finished: {'; '.join(lost)}; run the same command again to go on")


def _finished(house: House, cell: Cell, key: str) -> bool:
    return house.find(cell.dataset.name, cell.model.name, key) is not None
