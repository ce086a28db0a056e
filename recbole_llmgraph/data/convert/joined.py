"""Joined tables with a header row: items with names by S3-Rec id, interactions with real time, ratings."""

import csv
from collections.abc import Container

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.convert.common import Columns, IdMaps, Item, ItemSide, read_table
from recbole_llmgraph.data.interactions import Interactions
from recbole_llmgraph.data.rows import BadRows, clean
from recbole_llmgraph.data.sources import SourceFile

_BETWEEN = " | "


def read_items(found: SourceFile, bad: BadRows, wanted: Container[str]) -> ItemSide:
    """Title, brand, categories and key words of a joined item table (keyed by the dataset's own ids)."""
    table = list(read_table(found, bad, ("item_id",)))
    later = {name for _, row in table for name in row.get("brand_and_categories", "").split(_BETWEEN)[1:]}
    side = ItemSide(str(found), whole=False)
    for number, row in table:
        if side.accepts(row["item_id"], number, bad, wanted):
            side.rows[row["item_id"]] = _fields(row, later)
    if later:
        side.notes.append(
            "brand: first of `brand_and_categories`, unless another item has that name as a category"
        )
    return side


def _fields(row: dict[str, str], categories_elsewhere: set[str]) -> Item:
    fields: Item = {name: clean(row.get(name, "")) for name in ("title", "brand")}
    categories = row.get("categories", "")
    if both := row.get("brand_and_categories"):
        first, _, rest = both.partition(_BETWEEN)
        if first in categories_elsewhere:
            categories = both
        else:
            fields["brand"], categories = clean(first), rest
    fields["categories"] = [clean(name) for name in categories.split(_BETWEEN) if name]
    fields["keywords"] = clean(row.get("idgenrec_words", ""))
    return fields


def read_ids(found: SourceFile, bad: BadRows) -> IdMaps:
    """ASIN (or business id) to item id; the table knows no users."""
    items: dict[str, str] = {}
    for number, row in read_table(found, bad, ("item_id",)):
        key = row.get("asin") or row.get("business_id") or ""
        if not key or key in items:
            bad.add(found, number, f"item {row['item_id']} has no id of its own in the source")
        else:
            items[key] = row["item_id"]
    return IdMaps({}, items, str(found))


def read_ratings(found: SourceFile, bad: BadRows) -> Interactions:
    """A MovieLens table (`user_id movie_id rating …`) sorted by time: the row order is the time."""
    columns = Columns(found, bad)
    for number, row in read_table(found, bad, ("user_id", "movie_id", "rating")):
        columns.add(number, row["user_id"], row["movie_id"], row["rating"])
    return columns.interactions(rated=True, timed=False)


def read_summaries(found: SourceFile, bad: BadRows, wanted: Container[str]) -> ItemSide:
    """Agent4Rec's `movies_augmentation.csv`: one line on every film, written by a language model."""
    side = ItemSide(str(found))
    texts = (text.replace("\r", " ") for _, text in found.lines(bad))
    reader = csv.DictReader(texts)
    try:
        for row in reader:
            token, summary = row.get("movie_id") or "", row.get("summary")
            if summary is None:
                bad.add(found, reader.line_num, "no summary in this row")
            elif side.accepts(token, reader.line_num, bad, wanted):
                side.rows[token] = {"summary": clean(summary)}
    except csv.Error as error:
        raise UserError(f"{found}:{reader.line_num + 1}: a quoted field does not end ({error})") from None
    return side
