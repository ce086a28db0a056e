"""Many cells, one after the other in this process or side by side on Ray."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.host.config import check_device
from recbole_llmgraph.model.catalogue import model_card
from recbole_llmgraph.store.record import RunRecord
from recbole_llmgraph.store.runs import publish
from recbole_llmgraph.suite.asking import estimates
from recbole_llmgraph.suite.cell import Cell, choose_protocol, resolve_cell
from recbole_llmgraph.suite.house import House, default_data_folder
from recbole_llmgraph.suite.options import COMMITTED, read_sets, seeds
from recbole_llmgraph.suite.provide import refuse_strangers, stages
from recbole_llmgraph.suite.ray_pool import Pool, read_pool
from recbole_llmgraph.suite.run import Runner


def house_of(options: argparse.Namespace) -> House:
    """Folders and device that a command's options name, looked at before anything is made."""
    if options.max_cost is not None and not 0 < options.max_cost < math.inf:
        raise UserError(f"--max-cost {options.max_cost:g}: expected US dollars above 0")
    if not options.ray_address:  # the cluster's machines answer for theirs
        check_device(options.device)
    return House(
        store=options.store,
        data=options.data or default_data_folder(),
        source=options.source,
        committed=COMMITTED if COMMITTED.is_dir() else None,
        device=options.device,
        max_cost=options.max_cost,
    )


def plan(options: argparse.Namespace) -> list[Cell]:
    """Every cell that the options ask for: datasets, then models, then seeds."""
    models = [model_card(name) for name in options.model]
    overrides = read_sets(options.sets, models)
    cells = []
    for name in options.dataset:
        dataset = dataset_card(name)
        protocol = choose_protocol(models, dataset, options.protocol)
        cells += [
            resolve_cell(
                model,
                dataset,
                protocol=protocol,
                preset=options.preset,
                seed=seed,
                overrides=overrides,
            )
            for model in models
            for seed in seeds(options.seeds)
        ]
    refuse_strangers(overrides, cells)
    return cells


def run_many(options: argparse.Namespace) -> None:
    """Run the planned cells, or print them with `--dry-run`."""
    cells = plan(options)
    if options.dry_run:
        for cell in cells:
            print(_described(cell))
            for stage in dict.fromkeys(map(_described, stages(cell))):
                print(f"  stands on {stage}")
        for line in estimates(Runner(house_of(options)), cells):
            print(line)
        return
    house, always = house_of(options), options.rerun == "always"
    run_cells(house, cells, read_pool(options, inline=True), always=always, publishing=options.publish)


def _described(cell: Cell) -> str:
    """A cell with all of its settings."""
    settings = ", ".join(f"{k}={v}" for k, v in cell.settings.model_dump().items())
    return f"{cell.label} ({cell.protocol}, {cell.preset}): {settings}"


def run_cells(
    house: House, cells: Sequence[Cell], pool: Pool, *, always: bool = False, publishing: bool = False
) -> list[RunRecord]:
    """Results of cells, in their order: one after the other in this process, or side by side on a pool."""
    runner = Runner(house, always=always)
    if pool.address or pool.parallel != 1:
        from recbole_llmgraph.suite.ray_cells import run_side_by_side  # Ray takes seconds to import

        run_side_by_side(runner, cells, pool)
        runner = Runner(house)
    records = []
    for number, cell in enumerate(cells, start=1):
        say(f"[{number}/{len(cells)}] {cell.label}")
        record = runner.run(cell)
        folder = house.runs.find(record.dataset, record.model, record.key)
        if publishing and folder is not None:
            publish(folder, Path(COMMITTED))
        records.append(record)
    return records
