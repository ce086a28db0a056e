"""Yelp: the open dataset's JSON lines, and LETTER's `Yelp.item.json` (title, categories by S3-Rec id − 1)."""

import json
from collections.abc import Container, Iterator
from datetime import UTC, datetime
from typing import Any

from recbole_llmgraph.data.convert.common import Columns, IdMaps, Item, ItemSide, load_json, read_json
from recbole_llmgraph.data.interactions import Interactions, core, number
from recbole_llmgraph.data.rows import BadRows, clean
from recbole_llmgraph.data.sources import SourceFile


def read_interactions(found: SourceFile, bad: BadRows) -> Interactions:
    """User, business, stars and time of the reviews inside the source's period, in the order of the file."""
    columns = Columns(found, bad)
    first, last = found.source.period or ("", "9999")
    for line, row in _objects(found, bad, ("user_id", "business_id", "date")):
        date = str(row["date"])
        if first <= date <= last:
            time = _seconds(date)
            columns.add(line, str(row["user_id"]), str(row["business_id"]), str(row.get("stars", "")), time)
    return columns.interactions(rated=True, timed=True, raw=True)


def read_ids(found: SourceFile, bad: BadRows) -> IdMaps:
    """S3-Rec's numbering of the users and businesses of a review file."""
    rows = read_interactions(found, bad)
    users, items = number(core(rows, found.source.core), first_seen=rows.users)
    return IdMaps(users, items, str(found))


def read_items(found: SourceFile, bad: BadRows, wanted: Container[str]) -> ItemSide:
    """Name and categories of the wanted businesses."""
    side = ItemSide(str(found))
    for line, row in _objects(found, bad, ("business_id",)):
        if side.accepts(str(row["business_id"]), line, bad, wanted):
            side.rows[str(row["business_id"])] = _fields(row.get("name"), row.get("categories"))
    return side


def read_letter(found: SourceFile, bad: BadRows, wanted: Container[str]) -> ItemSide:
    """LETTER's item file; its keys count from 0."""
    side = ItemSide(str(found), whole=False)
    for place, (key, row) in enumerate(read_json(found).items(), start=1):
        if not key.isdecimal() or not isinstance(row, dict):
            bad.add(found, 1, f"entry {place} ('{key}') is no item")
        elif side.accepts(str(int(key) + 1), 1, bad, wanted):
            side.rows[str(int(key) + 1)] = _fields(row.get("title"), row.get("description"))
    return side


def _fields(name: object, categories: object) -> Item:
    names = [clean(each) for each in str(categories or "").split(", ")]
    return {"title": clean(str(name or "")), "categories": [each for each in names if each]}


def _seconds(date: str) -> str:
    try:
        return str(int(datetime.strptime(date, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()))
    except ValueError:
        return date


def _objects(
    found: SourceFile, bad: BadRows, needed: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in found.lines(bad):
        try:
            row = load_json(text)
        except json.JSONDecodeError as error:
            bad.add(found, line, f"not valid JSON ({error.msg})")
            continue
        missing = [key for key in needed if not isinstance(row, dict) or key not in row]
        if missing:
            bad.add(found, line, f"no '{missing[0]}' in this line")
        else:
            yield line, row
