"""Joined tables with a header row: items with names by S3-Rec id, interactions with real time, ratings."""

from recbole_llmgraph.data.convert.common import Item, ItemSide, read_table
from recbole_llmgraph.data.interactions import Interactions
from recbole_llmgraph.data.rows import BadRows, one_line, token_check
from recbole_llmgraph.data.sources import SourceFile

_BETWEEN = " | "


def read_items(found: SourceFile, bad: BadRows) -> ItemSide:
    """Title, brand, categories and key words of a joined item table (keyed by the dataset's own ids)."""
    table = list(read_table(found, bad, ("item_id",)))
    later = {name for _, row in table for name in row.get("brand_and_categories", "").split(_BETWEEN)[1:]}
    rows: dict[str, Item] = {}
    lines: dict[str, int] = {}
    for number, row in table:
        token = row["item_id"]
        if token in rows:
            bad.add(found, number, f"item {token} stands in the file twice")
            continue
        rows[token] = _fields(row, later)
        lines[token] = number
    notes = []
    if later:
        notes.append("brand: the first of `brand_and_categories`, unless that name is a category of another item")
    return ItemSide(rows, str(found), whole=False, lines=lines, notes=notes)


def _fields(row: dict[str, str], categories_elsewhere: set[str]) -> Item:
    fields: Item = {name: one_line(row[name]) for name in ("title", "brand") if row.get(name)}
    categories = row.get("categories", "")
    if both := row.get("brand_and_categories"):
        first, _, rest = both.partition(_BETWEEN)
        if first in categories_elsewhere:
            categories = both
        else:
            fields["brand"], categories = one_line(first), rest
    if categories:
        fields["categories"] = [one_line(name) for name in categories.split(_BETWEEN)]
    if row.get("idgenrec_words"):
        fields["keywords"] = one_line(row["idgenrec_words"])
    return fields


def read_times(found: SourceFile, bad: BadRows) -> Interactions:
    """Real times of a table whose columns carry RecBole types; the ids are the dataset's own."""
    from recbole_llmgraph.data.convert import recbole

    return recbole.read_interactions(found, bad)


def read_ratings(found: SourceFile, bad: BadRows) -> Interactions:
    """A MovieLens table sorted by time (`user_id movie_id rating timestamp_approx …`): the row order is the time."""
    users: list[str] = []
    items: list[str] = []
    ratings: list[str] = []
    lines: list[int] = []
    check = token_check()
    for number, row in read_table(found, bad, ("user_id", "movie_id", "rating")):
        fault = check(row["user_id"]) or check(row["movie_id"])
        if fault:
            bad.add(found, number, fault)
            continue
        users.append(row["user_id"])
        items.append(row["movie_id"])
        ratings.append(row["rating"])
        lines.append(number)
    return Interactions(users, items, ratings, None, lines)
