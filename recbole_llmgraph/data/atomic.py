"""RecBole's atomic files, written the same way whatever road the data came by: equal data, equal bytes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from recbole_llmgraph.data.catalogue import ITEM_COLUMNS
from recbole_llmgraph.data.convert.common import Item
from recbole_llmgraph.data.interactions import Interactions, natural, ranks
from recbole_llmgraph.data.rows import RESERVED, atomic_text

#: RecBole types of the `.item` columns. A title is its words; brand and categories are one token a name.
_TYPES = {"release_year": "token"}


def write_inter(path: Path, data: Interactions, ratings: bool) -> None:
    """`user_id item_id [rating] timestamp`: timestamp is the row's rank in its user's history, from 0.

    `data` must be in order (`interactions.in_order`).
    """
    header = ["user_id:token", "item_id:token", *(["rating:float"] if ratings else []), "timestamp:float"]
    columns: list[Iterable[object]] = [data.users, data.items]
    if ratings:
        columns.append(data.ratings or [])
    columns.append(ranks(data.users))
    _write(path, header, zip(*columns, strict=True))


def write_times(path: Path, data: Interactions, times: Sequence[float | None]) -> None:
    """Side column `unix_time`, row for row with `.inter`; empty where unknown."""
    header = ["user_id:token", "item_id:token", "timestamp:float", "unix_time:float"]
    shown = ("" if time is None else format(time, ".15g") for time in times)
    _write(path, header, zip(data.users, data.items, ranks(data.users), shown, strict=True))


def write_test(path: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """Pairs of a released test part, in the order of its file."""
    _write(path, ["user_id:token", "item_id:token"], pairs)


def item_columns(items: Mapping[str, Item]) -> list[str]:
    """Those of the fixed columns which any item fills."""
    filled = {name for item in items.values() for name, value in item.items() if value}
    return [name for name in ITEM_COLUMNS if name in filled]


def write_item(path: Path, items: Mapping[str, Item]) -> None:
    """`item_id` and every filled column, one row an item, by id."""
    columns = item_columns(items)
    header = ["item_id:token", *(f"{name}:{_TYPES.get(name, 'token_seq')}" for name in columns)]
    rows = (
        [token, *(_cell(items[token].get(name, ""), name) for name in columns)] for token in _tokens(items)
    )
    _write(path, header, rows)


def write_text(path: Path, items: Mapping[str, Item]) -> None:
    """Every text field of every item as JSON lines, quotes and all; attributes stay in `.item`."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for token in _tokens(items):
            fields = {name: items[token][name] for name in sorted(items[token]) if name != "attributes"}
            line = {"item_id": token, **{name: value for name, value in fields.items() if value}}
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def _tokens(items: Mapping[str, Item]) -> list[str]:
    return sorted(items, key=natural)


def _cell(value: str | list[str], column: str) -> str:
    """Words set apart by blanks; a name of several words is one token (`Hair_Care`)."""
    if isinstance(value, list):
        text = " ".join(atomic_text(name).replace(" ", "_") for name in value)
    elif column == "brand":
        text = atomic_text(value).replace(" ", "_")
    else:
        text = atomic_text(value)
    # pandas would read a title 'None' as missing; the full stop keeps it a word
    return f"{text}." if text and text in RESERVED else text


def _write(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write("\t".join(header) + "\n")
        stream.writelines("\t".join(map(str, row)) + "\n" for row in rows)
