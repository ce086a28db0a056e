"""McAuley's Amazon files of 2014: reviews (JSON lines), metadata (lines of Python literals), image features.

snap.stanford.edu/data/amazon/productGraph. The `_5` files are the 5-core. S3-Rec numbered users
and items in their order (by ASIN), as the published id maps of Beauty and Sports confirm.
"""

import ast
import json
import re
from collections.abc import Container
from typing import Any

import numpy as np

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import track
from recbole_llmgraph.data.convert.common import Columns, IdMaps, Item, ItemSide, load_json
from recbole_llmgraph.data.features import Feature
from recbole_llmgraph.data.interactions import Interactions, core, number
from recbole_llmgraph.data.rows import BadRows, clean
from recbole_llmgraph.data.sources import SourceFile

#: Bytes of an ASIN, and floats of an image row, in an image feature file.
ASIN_BYTES, IMAGE_WIDTH = 10, 4096
_ASIN = re.compile(r"""['"]asin['"]\s*:\s*['"]([^'"]+)['"]""")


def read_interactions(found: SourceFile, bad: BadRows) -> Interactions:
    """Reviewer, ASIN, rating and time of every review, in the order of the file."""
    columns = Columns(found, bad)
    for line, text in found.lines(bad):
        row = _literal(text)
        missing = [key for key in ("reviewerID", "asin", "unixReviewTime") if row is None or key not in row]
        if row is None or missing:
            bad.add(
                found, line, f"no '{missing[0]}' in this review" if row else "this line is no whole review"
            )
            continue
        columns.add(
            line,
            str(row["reviewerID"]),
            str(row["asin"]),
            str(row.get("overall", "")),
            str(row["unixReviewTime"]),
        )
    return columns.interactions(rated=True, timed=True, raw=True)


def read_ids(found: SourceFile, bad: BadRows) -> IdMaps:
    """S3-Rec's numbering of the reviewers and ASINs of a review file."""
    rows = read_interactions(found, bad)
    users, items = number(core(rows, found.source.core), first_seen=rows.users)
    return IdMaps(users, items, str(found))


def read_items(found: SourceFile, bad: BadRows, wanted: Container[str]) -> ItemSide:
    """Title, brand, categories and description of the wanted ASINs."""
    side = ItemSide(str(found))
    for line, text in found.lines(bad):
        asin = _ASIN.search(text)
        # most lines are of other items: only the wanted ones are parsed
        if asin and asin[1] not in wanted:
            side.left_out += 1
            continue
        row = _literal(text)
        if row is None or "asin" not in row:
            bad.add(found, line, "this line is no whole item")
        elif side.accepts(str(row["asin"]), line, bad, wanted):
            side.rows[str(row["asin"])] = _fields(row)
    return side


def _fields(row: dict[str, Any]) -> Item:
    paths = row.get("categories") or []
    names = (clean(str(name)) for path in paths for name in (path if isinstance(path, list) else [path]))
    fields: Item = {name: clean(str(row.get(name) or "")) for name in ("title", "brand", "description")}
    fields["categories"] = list(dict.fromkeys(name for name in names if name))
    return fields


def _literal(text: str) -> dict[str, Any] | None:
    """A line of JSON, or of Python's own notation as the metadata has it."""
    try:
        row = load_json(text)
    except json.JSONDecodeError:
        try:
            row = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return row if isinstance(row, dict) else None


def read_image(found: SourceFile, bad: BadRows, wanted: Container[str]) -> Feature:
    """Rows of the wanted ASINs; a record is 10 bytes of ASIN and 4096 float32 (little-endian)."""
    size = ASIN_BYTES + 4 * IMAGE_WIDTH
    rows: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
    with found.open() as stream:
        records = iter(lambda: stream.read(size), b"")
        for place, record in enumerate(track(records, f"reading {found.path.name}", unit="items"), start=1):
            if len(record) < size:
                raise UserError(
                    f"{found}: record {place} is cut short ({len(record)} of {size} bytes); fetch it again"
                )
            asin = record[:ASIN_BYTES].decode("ascii", "replace").strip()
            if asin not in wanted:
                continue
            row = np.frombuffer(record, dtype="<f4", offset=ASIN_BYTES)
            if asin in rows:
                bad.add(found, place, f"item {asin} stands in the file twice")
            elif not np.isfinite(row).all():
                bad.add(found, place, f"the features of item {asin} hold a value that is no number")
            else:
                rows[asin] = row.astype(np.float32)
    stacked = np.stack(list(rows.values())) if rows else np.zeros((0, IMAGE_WIDTH), np.float32)
    return Feature(list(rows), stacked, found.path.name)
