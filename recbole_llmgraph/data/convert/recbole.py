"""RecBole atomic files as sources: `.inter`, and `.item` with titles, brands and categories.

Fields may be quoted as `csv` writes them (a title may even hold a newline), as in the published Amazon files.
"""

import ast
import csv
import re
from collections.abc import Iterator

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.convert.common import Item, ItemSide
from recbole_llmgraph.data.interactions import Interactions
from recbole_llmgraph.data.rows import BadRows, one_line, token_check
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
    users: list[str] = []
    items: list[str] = []
    ratings: list[str] = []
    times: list[float] = []
    lines: list[int] = []
    check = token_check()
    timed = rated = False
    for number, row in _rows(found, bad, ("user_id", "item_id")):
        timed, rated = "timestamp" in row, "rating" in row
        fault = check(row["user_id"]) or check(row["item_id"])
        time = 0.0
        if timed and not fault:
            time, fault = read_time(row["timestamp"])
        if fault:
            bad.add(found, number, fault)
            continue
        users.append(row["user_id"])
        items.append(row["item_id"])
        ratings.append(row.get("rating", ""))
        times.append(time)
        lines.append(number)
    return Interactions(users, items, ratings if rated else None, times if timed else None, lines)


def read_items(found: SourceFile, bad: BadRows) -> ItemSide:
    """Text fields by item id, as far as the file has them."""
    rows: dict[str, Item] = {}
    for number, row in _rows(found, bad, ("item_id",)):
        token = row["item_id"]
        if token in rows:
            bad.add(found, number, f"item {token} stands in the file twice")
            continue
        fields: Item = {}
        for name, aliases in FIELDS.items():
            value = next((row[alias] for alias in aliases if alias in row), "")
            if name == "categories":
                fields[name] = category_list(value)
            elif value:
                fields[name] = one_line(value)
        rows[token] = fields
    return ItemSide(rows, str(found), raw=found.source.raw_ids)


def read_time(text: str) -> tuple[float, str | None]:
    """Unix seconds, and what is wrong with them."""
    try:
        value = float(text)
    except ValueError:
        return 0.0, f"the time {text!r} is no number"
    if not 0 <= value < float("inf"):
        return 0.0, f"the time {text!r} is not a number of seconds from 1970 on"
    return value, None


def category_list(value: str) -> list[str]:
    """Categories from `'a', 'b'` (a Python list without its brackets) or from words set apart by blanks."""
    if _LIST.match(value):
        try:
            names = ast.literal_eval(f"[{value.strip().removeprefix('[').removesuffix(']')}]")
        except (ValueError, SyntaxError):
            names = value.split(", ")
        return [clean for name in names if (clean := one_line(str(name)))]
    return value.split()


def _rows(found: SourceFile, bad: BadRows, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows as dictionaries by field name, with the line at which each begins."""
    position = [0]

    def texts() -> Iterator[str]:
        for number, text in found.lines(bad):
            position[0] = number
            yield text + "\n"

    reader = csv.reader(texts(), delimiter="\t")
    header = [name.strip() for name in next(reader, [])]
    names = _field_names(found, header, needed)
    start = position[0] + 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{found}:{start}: a quoted field does not end ({error}); close the quote") from None
        line, start = start, position[0] + 1
        if len(cells) != len(names):
            bad.add(found, line, f"{len(cells)} columns where the header has {len(names)}")
            continue
        yield line, dict(zip(names, cells, strict=True))


def _field_names(found: SourceFile, header: list[str], needed: tuple[str, ...]) -> list[str]:
    names = []
    for cell in header:
        name, colon, kind = cell.rpartition(":")
        if not colon:
            raise UserError(f"{found}:1: no header of RecBole's kind (it reads '{cell}'); expected user_id:token …")
        if kind not in TYPES:
            raise UserError(f"{found}:1: column '{cell}' has an unknown type. Allowed: {', '.join(TYPES)}.")
        names.append(name)
    for name in needed:
        if name not in names:
            raise UserError(f"{found}:1: the header lacks '{name}:token'; put the line with the column names back")
    return names
