"""A folder of profile vectors, as the tensor that a model reads."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from recbole_llmgraph.artifact.tables import load_table, rows_for

#: Tables in the folder, keyed by external token.
ITEMS, USERS = "items.safetensors", "users.safetensors"


def read_profiles(folder: Path, users: Sequence[str], items: Sequence[str]) -> Tensor:
    """Rows of all nodes, users first; zero for padding and for whoever has no profile.

    Args:
        folder: with both tables.
        users: external token of every user id, padding first.
        items: external token of every item id, padding first.

    Returns:
        `[U + N, T]`.
    """
    sides = ((USERS, users), (ITEMS, items))
    return torch.cat(
        [rows_for(load_table(folder / file), tokens, missing="zero").float() for file, tokens in sides]
    )
