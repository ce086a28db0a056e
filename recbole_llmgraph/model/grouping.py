"""A file of groups, as the tensors that a model reads."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from recbole_llmgraph.base.errors import UserError


def read_groups(path: Path, side: str, tokens: Sequence[str]) -> Tensor:
    """Group of every id, numbered from 0; whoever the file does not name is in the last one, the catch-all.

    Args:
        path: lines `item|user<TAB>token<TAB>group`.
        side: `item` or `user`.
        tokens: external token of every id, padding first.

    Returns:
        `[len(tokens)]`.

    Raises:
        UserError: when the file names nobody of this dataset.
    """
    lines = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    named = {token: group for of, token, group in lines if of == side}
    numbers = {group: n for n, group in enumerate(sorted(set(named.values()), key=lambda g: (len(g), g)))}
    found = [numbers[named[token]] if token in named else len(numbers) for token in tokens]
    if all(group == len(numbers) for group in found[1:]):
        raise UserError(
            f"{path}: names no {side} of this dataset by its id; its groups are another dataset's"
        )
    return torch.tensor(found, dtype=torch.long)
