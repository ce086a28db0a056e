"""Tables with one row per external token: what crosses from one stage or split id map to another."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import new_file

#: RecBole's token of id 0, for users and items.
PADDING = "[PAD]"


@dataclass(frozen=True)
class TokenTable:
    """Rows keyed by external token.

    Attributes:
        tokens: N external user or item tokens, all different.
        rows: [N, d].
        meta: where the rows come from, as plain data.
    """

    tokens: list[str]
    rows: Tensor
    meta: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def position(self) -> dict[str, int]:
        """Token → row number."""
        return {token: row for row, token in enumerate(self.tokens)}


def save_table(
    path: Path, tokens: Sequence[str], rows: Tensor | np.ndarray, meta: Mapping[str, Any] | None = None
) -> None:
    """Write a table as one safetensors file, whole or not at all; equal tables give equal bytes.

    Args:
        path: the file, by convention `*.safetensors`.
        tokens: N external tokens, all different.
        rows: [N, …].
        meta: plain data kept beside the rows.

    Raises:
        ValueError: when tokens repeat or their number is not N.
    """
    rows = torch.as_tensor(rows).detach().cpu().contiguous()
    if len(tokens) != len(rows):
        raise ValueError(f"{len(tokens)} tokens for {len(rows)} rows")
    if len(set(tokens)) != len(tokens):
        raise ValueError("a token stands twice in one table")
    text = np.frombuffer(json.dumps(list(tokens), ensure_ascii=False).encode(), dtype=np.uint8)
    with new_file(path) as temporary:
        # One metadata entry only: safetensors writes several in no fixed order.
        save_file(
            {"rows": rows, "tokens": torch.from_numpy(text.copy())},
            temporary,
            metadata={"meta": json.dumps(dict(meta or {}), sort_keys=True)},
        )


def load_table(path: Path) -> TokenTable:
    """Read a table that `save_table` wrote.

    Raises:
        UserError: when the file is missing or no such table.
    """
    try:
        with safe_open(path, framework="pt") as file:
            rows = file.get_tensor("rows")
            tokens = json.loads(file.get_tensor("tokens").numpy().tobytes().decode())
            meta = json.loads((file.metadata() or {})["meta"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: no table of tokens and rows ({error}); make it again") from None
    return TokenTable(tokens, rows, meta)


def rows_for(
    table: TokenTable, tokens: Sequence[str | None], *, missing: Literal["error", "zero"] = "error"
) -> Tensor:
    """Rows in the order of `tokens`, e.g. a RecBole dataset's `id2token`.

    Args:
        table: rows by token.
        tokens: external tokens; `None` and `[PAD]` give zero rows.
        missing: what a token without a row gives.

    Returns:
        [len(tokens), d].

    Raises:
        UserError: naming the first token without a row, with `missing="error"`.
    """
    places = [-1 if t is None or t == PADDING else table.position.get(str(t), -2) for t in tokens]
    if missing == "error" and -2 in places:
        lost = [str(t) for t, place in zip(tokens, places, strict=True) if place == -2]
        raise UserError(
            f"table of {len(table.tokens)} rows has none for token '{lost[0]}' and {len(lost) - 1} more; "
            "make it from this dataset"
        )
    index = torch.tensor(places, dtype=torch.long)
    rows = table.rows.new_zeros((len(places), *table.rows.shape[1:]))
    rows[index >= 0] = table.rows[index[index >= 0]]
    return rows
