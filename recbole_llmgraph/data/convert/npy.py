"""Feature matrices in `.npy` and a file that names their rows: an item id a line, or MMRec's id mapping."""

import tokenize
from collections.abc import Container
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.features import Feature
from recbole_llmgraph.data.rows import BadRows, one_line
from recbole_llmgraph.data.sources import SourceFile


def read_image(found: SourceFile, bad: BadRows, wanted: Container[str]) -> Feature:
    """Rows of the wanted items.

    Raises:
        UserError: when the matrix is none, or has another number of rows than the id list.
    """
    matrix = _matrix(found)
    ids = _row_ids(found, bad)
    if len(ids) != len(matrix):
        raise UserError(
            f"{found}: {len(matrix):,} rows where {found.source.rows} names {len(ids):,} items; "
            f"take both files from one source"
        )
    kept: dict[str, int] = {}
    for place, token in enumerate(ids):
        if token not in wanted:
            continue
        if token in kept:
            bad.add(found, place + 1, f"item {token} has two rows")
        elif not np.isfinite(matrix[place]).all():
            bad.add(found, place + 1, f"the features of item {token} hold a value that is no number")
        else:
            kept[token] = place
    return Feature(list(kept), matrix[list(kept.values())].astype(np.float32), found.path.name)


def _matrix(found: SourceFile) -> npt.NDArray[np.floating]:
    try:
        with found.open() as stream:
            matrix = np.load(stream, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, MemoryError, OverflowError, tokenize.TokenError) as error:
        raise UserError(
            f"{found}: is no whole .npy file ({one_line(str(error))[:60]}); fetch it again"
        ) from None
    if matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.floating):
        raise UserError(
            f"{found}: expected a matrix of floats [items, width], not {matrix.dtype}{list(matrix.shape)}"
        )
    return np.asarray(matrix)


def _row_ids(found: SourceFile, bad: BadRows) -> list[str]:
    """Item ids in row order."""
    name = found.source.rows or f"{Path(found.source.file).stem}.ids"
    path = found.path.parent / name
    if not path.is_file():
        raise UserError(f"{path}: no such file; it must name the item of every row of {found.path.name}")
    lines = list(SourceFile(found.source, path).lines(bad))
    header = lines[0][1].split("\t")
    if "itemID" not in header:
        return [text.strip() for _, text in lines]
    key, value = 1 - header.index("itemID"), header.index("itemID")
    pairs = [text.split("\t") for _, text in lines[1:]]
    for number, pair in enumerate(pairs, start=2):
        if len(pair) != 2 or not pair[value].isdecimal():
            raise UserError(
                f"{path}:{number}: expected an item id and its row, set apart by a tab; fetch it again"
            )
    return [pair[key] for pair in sorted(pairs, key=lambda pair: int(pair[value]))]
