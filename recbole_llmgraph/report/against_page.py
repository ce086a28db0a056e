"""The page that sets published tables beside the store."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from recbole_llmgraph.report.against import Beside, Line, PublishedBeside
from recbole_llmgraph.report.markdown import escape, key_link, table
from recbole_llmgraph.report.pages import GENERATED, Page
from recbole_llmgraph.report.words import metric_title

EXPLAINED = (
    "Published numbers as each paper printed them, beside the run of this suite that answers to the row: the "
    "same dataset, protocol and mask; of several runs the one that validated best; presets `paper` and "
    "`standard` only. Empty: not run. Δ is measured less published. A dagger marks a cell that is used other "
    "than it was printed (named below the table). Struck out: the metrics of that row contradict each other, "
    "so no Δ. Read the backbone above each table before the numbers: a language model of a million weights "
    "trained from scratch is not the published one, and a number near the published one does not say "
    "that it is."
)


def published_page(tables: Sequence[PublishedBeside], out: Path | None = None) -> Page:
    """All given tables; `out` is the folder the page will lie in, for links to runs."""
    parts = [GENERATED, "# Published and measured\n", f"{EXPLAINED}\n"]
    parts += [published_section(beside, out) for beside in tables]
    return Page("published.md", "\n".join(parts))


def published_section(beside: PublishedBeside, out: Path | None = None) -> str:
    """One published table."""
    measured = "; ".join(escape(told) for told in beside.backbones) or "nothing was run"
    facts = [escape(fact) for fact in plain_facts(beside)]
    if beside.table.kind != "counts":
        facts.append(f"**Measured with: {measured}**")
    if beside.table.url:
        facts[0] += f" ([link]({quote(beside.table.url, safe=':/')}))"
    parts = [f"## {escape(beside.table.title)}", "\n".join(f"* {fact}" for fact in facts)]
    for dataset in dict.fromkeys(line.dataset for line in beside.lines):
        own = [line for line in beside.lines if line.dataset == dataset]
        parts += [f"### {escape(dataset)}", table(header(beside, own), [_row(line, out) for line in own])]
    notes = list(plain_notes(beside))
    if notes:
        parts.append("\n".join(f"* {escape(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def plain_facts(beside: PublishedBeside) -> list[str]:
    """Where the numbers come from and how they were made."""
    known = beside.table
    source = f"{known.paper}: {known.source}"
    if known.kind == "counts":
        return [source, "Measured: the dataset's card, asserted whenever the dataset is prepared"]
    return [
        source,
        f"Protocol {known.protocol}, mask {known.mask} where a row names no other: {known.mask_source}",
        f"Published with: {known.backbone}",
    ]


def header(beside: PublishedBeside, lines: Sequence[Line]) -> list[str]:
    """Column titles of one dataset's part."""
    titles = ["row"]
    for metric in dict.fromkeys(metric for line in lines for metric in line.cells):
        titles += [metric_title(metric), "measured", "Δ"]
    return titles if beside.table.kind == "counts" else [*titles, "mask", "backbone", "preset", "run"]


def _row(line: Line, out: Path | None) -> list[str]:
    """One published row."""
    cells = [escape(line.row)]
    for beside in line.cells.values():
        text = published_text(beside)
        cells += [text if beside.target else f"~~{text}~~", *measured_cells(beside, line)]
    if "users" in line.cells:  # counts of a dataset, which no run measures
        return cells
    if line.found is None:
        return [*cells, line.mask, "", "", "" if line.card.model else "not in this suite"]
    row, board = line.found.row, line.found.board
    keys = zip(row["keys"], row["folders"], strict=True)
    links = ", ".join(key_link(key, folder, out) for key, folder in keys)
    return [*cells, line.mask, escape(row["backbone"] or "none"), escape(board.preset), links]


def published_text(beside: Beside) -> str:
    """`0.0440†`: a dagger where it was printed otherwise."""
    cell = beside.published
    return _number(cell.value, cell.half) + ("†" if cell.printed else "")


def measured_cells(beside: Beside, line: Line) -> tuple[str, str]:
    """Measured number and difference; empty where nothing was run."""
    if beside.measured is None:
        return "", ""
    half = line.found.half(beside.published.metric) if line.found else math.nan
    places = beside.published.half if line.found is None else 5e-5
    text = _number(beside.measured, places) + ("" if math.isnan(half) else f" ± {half:.4f}")
    difference = beside.difference if beside.target else None
    return text, "" if difference is None else f"{difference:+.{_places(places)}f}"


def _number(value: float, half: float) -> str:
    """As many places as were printed."""
    places = _places(half)
    return f"{value:,.{places}f}"


def _places(half: float) -> int:
    """Decimal places whose half step is `half`."""
    return max(0, round(-math.log10(2 * half)))


def plain_notes(beside: PublishedBeside) -> Iterable[str]:
    """Corrections, then what single rows need."""
    for correction in beside.table.corrections:
        cell = f"{correction.row}, {correction.column}, printed {correction.printed}: "
        yield f"† {cell}{correction.why}" if correction.row else correction.why
    for row, card in beside.table.rows.items():
        if card.note:
            yield f"{row}: {card.note}"
    struck = dict.fromkeys(
        f"{line.row} on {line.dataset}"
        for line in beside.lines
        if not all(cell.target for cell in line.cells.values())
    )
    if struck:
        yield f"struck out, metrics that contradict each other: {', '.join(struck)}"
