"""From run folders to text, for the commands."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from recbole_llmgraph.base.progress import say
from recbole_llmgraph.report.leaderboard import Leaderboard, leaderboards
from recbole_llmgraph.report.pages import dataset_page, datasets_of, index_page, page_text, write_pages
from recbole_llmgraph.store.frame import runs_frame
from recbole_llmgraph.store.runs import StoredRuns, read_stores


def read_boards(roots: Iterable[Path]) -> tuple[list[Leaderboard], StoredRuns]:
    """All tables of some stores and the runs behind them; names folders with a problem on the terminal."""
    stored = read_stores(roots)
    for problem in stored.problems:
        say(f"{problem.folder}: {problem.why}")
    return leaderboards(runs_frame(stored.runs)), stored


def choose(
    boards: Iterable[Leaderboard],
    *,
    datasets: Sequence[str] = (),
    masks: Sequence[str] = (),
    presets: Sequence[str] = (),
) -> list[Leaderboard]:
    """Tables of these datasets, masks and presets; an empty list allows all."""
    return [
        board
        for board in boards
        if (not datasets or board.dataset in datasets)
        and (not masks or board.mask in masks)
        and (not presets or board.preset in presets)
    ]


def selected(boards: Iterable[Leaderboard]) -> list[Leaderboard]:
    """Tables under the mask by which their runs chose epochs: the one a leaderboard uses."""
    return [board for board in boards if board.mask in set(board.rows["selection_mask"])]


def boards_text(
    roots: Iterable[Path],
    *,
    datasets: Sequence[str] = (),
    masks: Sequence[str] = (),
    preset: str = "",
    expect: Sequence[str] = (),
) -> str:
    """Leaderboards as Markdown.

    Args:
        roots: stores to read, such as `runs` and `reports/runs`.
        datasets: names; all without.
        masks: evaluation masks; without, the one that selection used.
        preset: one preset; all without.
        expect: models that should have a row; the others are listed with the command that runs them.
    """
    boards, _ = read_boards(roots)
    presets = [preset] if preset else []
    shown = choose(boards, datasets=datasets, masks=masks, presets=presets)
    if not masks:
        shown = selected(shown)
    return listed(shown, datasets, expect=expect, presets=presets or ("standard",))


def listed(
    boards: Sequence[Leaderboard],
    datasets: Sequence[str] = (),
    *,
    expect: Sequence[str] = (),
    presets: Sequence[str] = ("standard",),
) -> str:
    """Tables as text for a terminal, by dataset; arguments as in `dataset_page`."""
    names = datasets or datasets_of(boards)
    pages = [dataset_page(name, boards, expect=expect, presets=presets) for name in names]
    return "\n".join(page_text(page) for page in pages) or "No finished runs here yet."


def write_reports(
    boards: Sequence[Leaderboard],
    stored: StoredRuns,
    out: Path,
    *,
    datasets: Sequence[str] = (),
    expect: Sequence[str] = (),
    presets: Sequence[str] = ("standard",),
) -> list[Path]:
    """Write the pages of some datasets (all without names) and the index; returns the files.

    The same runs give the same bytes, whatever order folders are read in.
    """
    names = datasets or datasets_of(boards)
    pages = [dataset_page(name, boards, expect=expect, presets=presets, out=out) for name in names]
    written = write_pages(pages, out)
    there = [path.name for path in out.glob("*.md")]
    return written + write_pages([index_page(boards, stored.problems, there)], out)
