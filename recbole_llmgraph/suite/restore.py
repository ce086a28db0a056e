"""A finished run's model, as it was judged."""

from typing import Any

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.dataset import Split, load_split
from recbole_llmgraph.suite.cell import Cell
from recbole_llmgraph.suite.provide import with_paths
from recbole_llmgraph.suite.run import WEIGHTS_FILE, Runner, make_cell_config, make_model
from recbole_llmgraph.train.checkpoint import load_weights


def restored(runner: Runner, cell: Cell) -> tuple[Any, Split]:
    """Model with the kept weights, and its split; trains the cell first where it is not finished.

    Raises:
        UserError: when the run was copied here without its weights.
    """
    record = runner.run(cell)
    file = runner.house.runs.folder(record.dataset, record.model, record.key) / WEIGHTS_FILE
    if not file.exists():
        raise UserError(
            f"{cell.label}: its weights are not in {file.parent}; "
            "train it again there with run.py --rerun always, or pass the --store that has them"
        )
    settings = with_paths(cell, runner.provide(cell)).settings
    split = load_split(
        make_cell_config(cell, settings, runner.house.ready(cell.dataset), runner.house.device)
    )
    model = make_model(cell, split)
    load_weights(file, model)
    return model.eval(), split
