"""Published tables as data: what a paper printed, where it stands, and what was corrected.

A table is two files of `properties/published/`: `<name>.csv` holds the numbers as they are used,
`<name>.yaml` says where they stand, under which protocol and mask they were made, which model of the suite
each row is, and every correction. Nothing here is measured.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from recbole_llmgraph.base.errors import UserError, unknown
from recbole_llmgraph.base.files import read_yaml
from recbole_llmgraph.base.settings import Settings
from recbole_llmgraph.data.catalogue import properties_folder
from recbole_llmgraph.report.feasible import infeasible
from recbole_llmgraph.store.record import Mask


class RowCard(Settings):
    """What a published row is in this suite; without a model, the suite has none."""

    model: str = ""
    set: dict[str, JsonValue] = {}
    """Settings by which the row differs from the whole model."""
    mask: Mask | None = None
    """Where it is not the table's."""
    note: str = ""


class Correction(Settings):
    """A cell (or, without one, the whole table) that is used other than it was printed."""

    why: str
    row: str = ""
    column: str = ""
    printed: str = ""


class PublishedTable(Settings):
    """One table of a paper."""

    name: str
    title: str
    paper: str
    source: str
    """Where the numbers stand."""
    url: str = ""
    kind: Literal["metrics", "counts"] = "metrics"
    backbone: str = ""
    protocol: str = ""
    mask: Mask = "none"
    mask_source: str = ""
    """How the mask is known."""
    single_target: bool = True
    unit: Literal["fraction", "percent"] = "fraction"
    row: str
    """Column that names a row."""
    group: str = ""
    dataset: str = ""
    """The dataset of every cell, where columns do not name one."""
    dataset_column: str = ""
    datasets: dict[str, str] = {}
    """Prefix of a column (or name of a row) to dataset."""
    metrics: dict[str, str] = {}
    """Column, less its prefix, to metric."""
    counts: dict[str, str] = {}
    """Column to what it counts."""
    rows: dict[str, RowCard] = {}
    corrections: list[Correction] = []


@dataclass(frozen=True)
class PublishedCell:
    """One number.

    Attributes:
        row: its row's name.
        dataset: the suite's name of the dataset.
        metric: `recall@10`, or what a column counts.
        value: as a fraction; counts as they are, density and sparsity in percent.
        half: half of the last printed place, in the same unit.
        printed: what the paper printed where that was corrected, else ''.
        feasible: False where the metrics of its row contradict each other (see `feasible.py`).
    """

    row: str
    dataset: str
    metric: str
    value: float
    half: float
    printed: str = ""
    feasible: bool = True


def published_folder() -> Path:
    """Where the tables lie."""
    return properties_folder() / "published"


@cache
def published_tables() -> dict[str, PublishedTable]:
    """Every table by name, sorted."""
    found = [read_table(path) for path in sorted(published_folder().glob("*.yaml"))]
    return {table.name: table for table in found}


def published_table(name: str) -> PublishedTable:
    """One table.

    Raises:
        UserError: for an unknown name, with the nearest known one.
    """
    tables = published_tables()
    if name not in tables:
        raise unknown("published table", name, tables)
    return tables[name]


def read_table(path: Path) -> PublishedTable:
    """Table in a yaml file."""
    values = read_yaml(path)
    for row, card in (values.get("rows") or {}).items():
        RowCard.read(card or {}, f"{path.name}: rows.{row}")
    return PublishedTable.read({"name": path.stem, **values}, path.name)


def published_cells(table: PublishedTable) -> list[PublishedCell]:
    """Numbers of a table, row by row.

    Raises:
        UserError: when the csv file and the yaml file do not fit together.
    """
    path = published_folder() / f"{table.name}.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    if table.kind == "metrics" and {line[table.row] for line in lines} != set(table.rows):
        raise UserError(f"{table.name}: the rows of {path.name} and of its yaml file differ")
    return [cell for line in lines for cell in _cells(table, line)]


def _cells(table: PublishedTable, line: dict[str, str]) -> list[PublishedCell]:
    """Numbers of one row, those that contradict each other marked."""
    row = line[table.row]
    printed = {(c.row, c.column): c.printed for c in table.corrections}
    found = []
    for column, text in line.items():
        place = _place(table, line, column)
        if place is None or not text:
            continue
        value, half = _number(text, table.unit)
        found.append(PublishedCell(row, *place, value, half, printed.get((row, column), "")))
    bad = infeasible(found) if table.single_target and table.kind == "metrics" else set()
    return [
        PublishedCell(c.row, c.dataset, c.metric, c.value, c.half, c.printed, feasible=False)
        if (c.dataset, c.metric) in bad
        else c
        for c in found
    ]


def _place(table: PublishedTable, line: dict[str, str], column: str) -> tuple[str, str] | None:
    """Dataset and metric of a column; None for the columns that name a row."""
    if table.kind == "counts":
        return (table.datasets[line[table.row]], table.counts[column]) if column in table.counts else None
    prefix, _, rest = column.partition("_")
    if prefix in table.datasets and rest in table.metrics:
        return table.datasets[prefix], table.metrics[rest]
    if column not in table.metrics:
        return None
    return table.dataset or line[table.dataset_column], table.metrics[column]


def _number(text: str, unit: str) -> tuple[float, float]:
    """Value and half of its last printed place."""
    places = len(text.partition(".")[2])
    scale = 0.01 if unit == "percent" else 1.0
    return float(text) * scale, 0.5 * 10.0**-places * scale
