"""What several converters share: id maps, item side, JSON, tables with a header."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.rows import BadRows
from recbole_llmgraph.data.sources import SourceFile

#: One item's fields: text, or a list of names (categories, attributes).
Item = dict[str, str | list[str]]


@dataclass(frozen=True, slots=True)
class IdMaps:
    """From the source's own ids to the dataset's."""

    users: dict[str, str]
    items: dict[str, str]
    origin: str


@dataclass(frozen=True, slots=True)
class ItemSide:
    """Fields by item. `raw`: keyed by the source's own ids; `whole`: may list items nobody touched."""

    rows: dict[str, Item]
    origin: str
    raw: bool = False
    whole: bool = True
    lines: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_json(found: SourceFile) -> dict[str, Any]:
    """A file that is one JSON object.

    Raises:
        UserError: naming the line at which it stops being JSON.
    """
    try:
        data = json.loads(found.read())
    except json.JSONDecodeError as error:
        raise UserError(f"{found}:{error.lineno}: not valid JSON ({error.msg}); fetch it again") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{found}:1: not UTF-8 (byte {error.start + 1}); fetch it again") from None
    if not isinstance(data, dict):
        raise UserError(f"{found}:1: expected one JSON object; fetch it again")
    return data


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
                    f"{found}:1: the header lacks '{missing[0]}' (it reads {', '.join(header[:8])}); "
                    f"put the line with the column names back"
                )
            continue
        if len(cells) != len(header):
            bad.add(found, number, f"{len(cells)} columns where the header has {len(header)}")
            continue
        yield number, dict(zip(header, cells, strict=True))
