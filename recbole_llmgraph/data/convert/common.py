"""What several converters share: columns in the making, id maps, the item side, JSON, tables."""

import json
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Any

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.interactions import Interactions
from recbole_llmgraph.data.rows import BadRows, clean, time_fault, token_check
from recbole_llmgraph.data.sources import SourceFile

#: One item's fields: text, or a list of names (categories, attributes).
Item = dict[str, str | list[str]]
_YEAR = re.compile(r"^(?P<title>.*?)\s*\((?P<year>\d{4})[^)]*\)(?:\s*\((?:V|TV)\))?$")


class Columns:
    """Interactions in the making: every row's ids and time are looked at once."""

    def __init__(self, found: SourceFile, bad: BadRows) -> None:
        self._found, self._bad, self._check = found, bad, token_check()
        self._users: list[str] = []
        self._items: list[str] = []
        self._ratings: list[str] = []
        self._times: list[float] = []
        self._lines: list[int] = []

    def add(
        self, line: int, user: str, item: str, rating: str | None = None, time: str | None = None
    ) -> None:
        """One row; a fault makes it a bad row. Ratings are compared with the card's range later."""
        fault = self._check(user) or self._check(item) or (None if time is None else time_fault(time))
        if fault:
            self._bad.add(self._found, line, fault)
            return
        self._users.append(user)
        self._items.append(item)
        self._ratings.append(rating or "")
        self._times.append(float(time) if time is not None else 0.0)
        self._lines.append(line)

    def interactions(self, *, rated: bool, timed: bool, raw: bool = False) -> Interactions:
        """The rows added so far."""
        ratings = self._ratings if rated else None
        return Interactions(
            self._users, self._items, ratings, self._times if timed else None, self._lines, raw
        )


@dataclass(frozen=True, slots=True)
class IdMaps:
    """From the source's own ids to the dataset's; `users` may be empty when a file maps items only."""

    users: dict[str, str]
    items: dict[str, str]
    origin: str


@dataclass(slots=True)
class ItemSide:
    """Fields by item.

    `whole`: a catalogue that may list items nobody touched; they are
    left out and counted. In a file that is not whole such an item is a bad row.
    """

    origin: str
    whole: bool = True
    rows: dict[str, Item] = field(default_factory=dict)
    left_out: int = 0
    notes: list[str] = field(default_factory=list)

    def accepts(self, token: str, line: int, bad: BadRows, wanted: Container[str]) -> bool:
        """Whether a row is new and of an item that somebody touched."""
        if token in self.rows:
            bad.add(self.origin, line, f"item {token} stands in the file twice")
        elif token in wanted:
            return True
        elif self.whole:
            self.left_out += 1
        else:
            bad.add(self.origin, line, f"item {token} has no interaction")
        return False


def title_and_year(title: str, year: str = "") -> tuple[str, str]:
    """`Toy Story (1995)` as title and year; a year that is no number counts as none."""
    title = clean(title)
    if year.isdecimal():
        return title, year
    found = _YEAR.match(title)
    return (found["title"], found["year"]) if found else (title, "")


def load_json(text: str | bytes) -> Any:
    """`json.loads` for which brackets without end are a `JSONDecodeError` too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise json.JSONDecodeError("too deeply nested", "", 0) from None


def parse_json(text: str | bytes, where: str, line: int | None = None) -> dict[str, Any]:
    """One JSON object.

    Raises:
        UserError: naming the line at which it stops being JSON.
    """
    try:
        data = load_json(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{where}:{line or error.lineno}: not valid JSON ({error.msg}); fetch it again"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{where}:1: not UTF-8 (byte {error.start + 1}); fetch it again") from None
    if not isinstance(data, dict):
        raise UserError(f"{where}:{line or 1}: expected a JSON object; fetch it again")
    return data


def read_json(found: SourceFile) -> dict[str, Any]:
    """A file that is one JSON object."""
    return parse_json(found.read(), str(found))


def read_table(
    found: SourceFile, bad: BadRows, needed: tuple[str, ...], separator: str = "\t"
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a separated table with a header line, as dictionaries; no quoting.

    Raises:
        UserError: when the header lacks a needed column.
    """
    header: list[str] | None = None
    for number, text in found.lines(bad):
        cells = text.split(separator)
        if header is None:
            header = cells
            missing = [name for name in needed if name not in header]
            if missing:
                raise UserError(
                    f"{found}:1: the header lacks '{missing[0]}' (it reads {', '.join(header[:8])[:80]}); "
                    f"put the line with the column names back"
                )
        elif len(cells) == len(header):
            yield number, dict(zip(header, cells, strict=True))
        else:
            bad.add(found, number, f"{len(cells)} columns where the header has {len(header)}")
