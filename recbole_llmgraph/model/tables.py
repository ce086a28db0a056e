"""Tables between stages: what one leaves, and what another reads, checked."""

from pathlib import Path

from torch import Tensor

from recbole_llmgraph.artifact.tables import TokenTable, load_table
from recbole_llmgraph.base.errors import UserError


def checked_table(file: str, setting: str, model: str, seen: str | None) -> TokenTable:
    """A table that an earlier stage made; a trained one must have seen this training part and nothing else.

    Args:
        file: its path, '' when the suite did not provide it.
        setting: the setting that names it.
        model: the model that reads it.
        seen: fingerprint of the training part; None of a table that saw no interactions.

    Raises:
        UserError: when there is none, or it saw another split.
    """
    table = load_table(provided_file(file, setting, model))
    if seen is not None and table.meta.get("training_fingerprint") != seen:
        raise UserError(
            f"{setting}={file} was trained on another split (or does not say on which); "
            f"train it on this one: benchmarks/run.py --model={model}"
        )
    return table


def provided_file(file: str, setting: str, model: str) -> Path:
    """Path of a file that the suite provides.

    Raises:
        UserError: when there is none.
    """
    if not file:
        raise UserError(
            f"{model} needs {setting}: pass config_dict=recbole_settings('{model}', dataset), "
            f"which trains the earlier stages first, or run benchmarks/run.py --model={model}"
        )
    return Path(file)


def without_padding(table: Tensor) -> Tensor:
    """A copy whose padding row is zero: what later stages read. `[n, d]`"""
    table = table.detach().clone()
    table[0] = 0
    return table
