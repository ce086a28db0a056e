"""Published beside measured, cell by cell. What was not run stays empty; nothing is filled in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.report.leaderboard import Leaderboard
from recbole_llmgraph.report.measured import Asked, Measured, find
from recbole_llmgraph.report.published import (
    PublishedCell,
    PublishedTable,
    RowCard,
    published_cells,
    published_tables,
)


@dataclass(frozen=True)
class Beside:
    """A published number and the measured one, None where nothing was run."""

    published: PublishedCell
    measured: float | None

    @property
    def difference(self) -> float | None:
        """Measured less published."""
        return None if self.measured is None else self.measured - self.published.value

    @property
    def target(self) -> bool:
        """Whether the published number can be right at all."""
        return self.published.feasible


@dataclass(frozen=True)
class Line:
    """One published row on one dataset.

    Attributes:
        row, dataset: as the table names them.
        mask: under which the row was published, and is measured.
        card: what the row is in this suite.
        found: the run that stands beside it.
        cells: by metric, in the table's order.
    """

    row: str
    dataset: str
    mask: str
    card: RowCard
    found: Measured | None
    cells: dict[str, Beside]


@dataclass(frozen=True)
class PublishedBeside:
    """A published table with what the store holds for it."""

    table: PublishedTable
    lines: list[Line]

    @property
    def metrics(self) -> list[str]:
        """Columns, in the table's order."""
        return list(dict.fromkeys(metric for line in self.lines for metric in line.cells))

    @property
    def backbones(self) -> list[str]:
        """`HeLLM: builtin:llama-mini, preset standard` of every measured row, each said once."""
        told = [line.found for line in self.lines if line.found is not None]
        named = (f"{f.row['model']}: {f.row['backbone'] or 'none'}, preset {f.board.preset}" for f in told)
        return list(dict.fromkeys(named))


def beside(
    boards: Sequence[Leaderboard], names: Iterable[str] = (), datasets: Sequence[str] = ()
) -> list[PublishedBeside]:
    """Every published table, or the named ones, with the store's numbers.

    Args:
        boards: all tables of the store.
        names: of published tables, or the start of one (`hellm`); all without.
        datasets: lines of these only; all without.

    Raises:
        UserError: for a name that no published table begins with.
    """
    tables = published_tables()
    wanted = list(names)
    for name in wanted:
        if not any(known.startswith(name) for known in tables):
            raise UserError(f"no published table '{name}'; known are {', '.join(tables)}")
    chosen = [t for known, t in tables.items() if not wanted or known.startswith(tuple(wanted))]
    return [PublishedBeside(table, _lines(table, boards, datasets)) for table in chosen]


def _lines(table: PublishedTable, boards: Sequence[Leaderboard], datasets: Sequence[str]) -> list[Line]:
    """Rows of a table by dataset."""
    by_place: dict[tuple[str, str], list[PublishedCell]] = {}
    for cell in published_cells(table):
        if not datasets or cell.dataset in datasets:
            by_place.setdefault((cell.dataset, cell.row), []).append(cell)
    order = {dataset: place for place, dataset in enumerate(dict.fromkeys(d for d, _ in by_place))}
    places = sorted(by_place, key=lambda place: order[place[0]])  # stable: rows keep the table's order
    return [_line(table, boards, place, by_place[place]) for place in places]


def _line(
    table: PublishedTable, boards: Sequence[Leaderboard], place: tuple[str, str], cells: list[PublishedCell]
) -> Line:
    """One row on one dataset with its run."""
    dataset, row = place
    card = table.rows.get(row, RowCard())
    mask = card.mask or table.mask
    found = find(boards, dataset, table.protocol, mask, Asked(card.model, card.set)) if card.model else None
    measured = {
        cell.metric: found.mean(cell.metric) if found else _counted(dataset, cell.metric) for cell in cells
    }
    told = {cell.metric: Beside(cell, _known(measured[cell.metric])) for cell in cells}
    return Line(row, dataset, mask, card, found, told)


def _known(value: float | None) -> float | None:
    """None for a number that no run has."""
    return None if value is None or value != value else value


def _counted(dataset: str, what: str) -> float | None:
    """What the suite's dataset card counts, asserted whenever the dataset is prepared."""
    counts = dataset_card(dataset).counts
    users, items, interactions = counts.users, counts.items, counts.interactions
    kept, cells = interactions - users, users * items / 100
    told: dict[str, float] = {
        "users": users,
        "items": items,
        "interactions": interactions,
        "training and test": kept,
        "density": interactions / cells,
        "sparsity of training and test": 100 - kept / cells,
    }
    return told.get(what)
