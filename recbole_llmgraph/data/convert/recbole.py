"""RecBole atomic files as sources: `.inter`, and `.item` with titles, brands and categories.

Fields may be quoted as `csv` writes them (a title may even hold a newline), as in the published Amazon files.
"""

import ast
import csv
import re
from collections.abc import Container, Iterator

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.convert.common import Columns, Item, ItemSide, title_and_year
from recbole_llmgraph.data.interactions import Interactions
from recbole_llmgraph.data.rows import BadRows, clean
from recbole_llmgraph.data.sources import SourceFile

TYPES = ("token", "token_seq", "float", "float_seq")
#: Names under which published atomic files keep our fields.
FIELDS = {
    "title": ("title", "movie_title", "name"),
    "brand": ("brand",),
    "categories": ("categories", "class", "genre"),
    "release_year": ("release_year",),
    "description": ("description",),
}
_LIST = re.compile(r"^\s*\[?\s*['\"]")


def read_interactions(found: SourceFile, bad: BadRows) -> Interactions:
    """`user_id`, `item_id`, and `rating` and `timestamp` where there are any."""
    columns = Columns(found, bad)
    timed = rated = False
    for number, row in _rows(found, bad, ("user_id", "item_id")):
        timed, rated = "timestamp" in row, "rating" in row
        columns.add(number, row["user_id"], row["item_id"], row.get("rating"), row.get("timestamp"))
    return columns.interactions(rated=rated, timed=timed)


def read_items(found: SourceFile, bad: BadRows, wanted: Container[str]) -> ItemSide:
    """Text fields of the wanted items, as far as the file has them."""
    side = ItemSide(str(found))
    for number, row in _rows(found, bad, ("item_id",)):
        if side.accepts(row["item_id"], number, bad, wanted):
            side.rows[row["item_id"]] = _fields(row)
    return side


def _fields(row: dict[str, str]) -> Item:
    fields: Item = {}
    for name, aliases in FIELDS.items():
        value = next((row[alias] for alias in aliases if alias in row), "")
        if name == "categories":
            fields[name] = category_list(value)
        else:
            fields[name] = clean(value)
    if "movie_title" in row:
        fields["title"], fields["release_year"] = title_and_year(
            row["movie_title"], row.get("release_year", "")
        )
    return fields


def category_list(value: str) -> list[str]:
    """Categories from `'a', 'b'` (a Python list without its brackets) or from words set apart by blanks."""
    if not _LIST.match(value):
        return value.split()
    try:
        names = ast.literal_eval(f"[{value.strip().removeprefix('[').removesuffix(']')}]")
    except (ValueError, SyntaxError):
        names = value.split(", ")
    return list(dict.fromkeys(name for name in (clean(str(each)) for each in names) if name))


def _rows(found: SourceFile, bad: BadRows, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows as dictionaries by field name, with the line at which each begins."""
    last = 0

    def texts() -> Iterator[str]:
        nonlocal last
        for number, text in found.lines(bad):
            last = number
            # a bare carriage return inside a line is white space, not the end of a row
            yield text.replace("\r", " ") + "\n"

    reader = csv.reader(texts(), delimiter="\t")
    names = _field_names(found, next(reader, []), needed)
    while True:
        start = last + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{found}:{start}: a quoted field does not end ({error}); close the quote"
            ) from None
        if len(cells) == len(names):
            yield start, dict(zip(names, cells, strict=True))
        else:
            bad.add(found, start, f"{len(cells)} columns where the header has {len(names)}")


def _field_names(found: SourceFile, header: list[str], needed: tuple[str, ...]) -> list[str]:
    names = []
    for cell in header:
        name, colon, kind = cell.rpartition(":")
        if not colon:
            raise UserError(
                f"{found}:1: no header of RecBole's kind (it reads '{cell}'); expected user_id:token …"
            )
        if kind not in TYPES:
            raise UserError(f"{found}:1: column '{cell}' has an unknown type. Allowed: {', '.join(TYPES)}.")
        names.append(name)
    for name in needed:
        if name not in names:
            raise UserError(
                f"{found}:1: the header lacks '{name}:token'; put the line with the column names back"
            )
    return names
