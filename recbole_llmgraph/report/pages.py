"""Pages: one Markdown file a dataset, and an index. The same store gives the same bytes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import new_file
from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.report.columns import number
from recbole_llmgraph.report.leaderboard import ORDER_BY, Leaderboard, empty_leaderboard
from recbole_llmgraph.report.markdown import code, escape, leaderboard_section, table
from recbole_llmgraph.report.notes import row_name
from recbole_llmgraph.report.words import apart_words
from recbole_llmgraph.store.runs import Problem, folder_name

GENERATED = "<!-- made by benchmarks/report.py from the run folders; do not edit -->"
APART = (
    "Numbers stand in one table only when they may be compared: same protocol, mask, split, candidate items "
    "and preset. Best bold, second underlined. A star after the code version: made from changed files."
)


@dataclass(frozen=True)
class Page:
    """A Markdown file to be."""

    name: str
    text: str


def dataset_page(
    dataset: str,
    boards: Sequence[Leaderboard],
    *,
    expect: Sequence[str] = (),
    presets: Sequence[str] = ("standard",),
    out: Path | None = None,
) -> Page:
    """All tables of one dataset.

    Args:
        dataset: its name.
        boards: all tables of the store; those of other datasets are passed over.
        expect: models that should have a row in every table of `presets`.
        presets: presets of the expectation.
        out: folder the page will lie in, for links to the runs.
    """
    own = [board for board in boards if board.dataset == dataset]
    for preset in presets if expect else ():
        if not any(board.preset == preset for board in own):
            own.append(empty_leaderboard(dataset, "", preset, ""))
    sections = [leaderboard_section(b, expect if b.preset in presets else (), out) for b in own]
    apart = apart_words([board for board in own if len(board.rows)])
    intro = [GENERATED, f"# {escape(dataset)}\n", f"{APART}\n", *([f"{apart}\n"] if apart else [])]
    known = contamination(dataset)
    intro += [f"Contamination of public language models: {escape(known)}\n"] if known else []
    text = "\n".join([*intro, *sections])
    return Page(page_name(dataset), text)


def contamination(dataset: str) -> str:
    """What its card says of a dataset inside language models' training data; empty for one without a card."""
    try:
        return dataset_card(dataset).contamination
    except UserError:
        return ""


def page_name(dataset: str) -> str:
    """File name of a dataset's page."""
    return f"{folder_name(dataset)}.md"


def index_page(boards: Sequence[Leaderboard], problems: Sequence[Problem], pages: Iterable[str]) -> Page:
    """All tables by dataset with their leader, and what was left out.

    Args:
        boards: all tables of the store.
        problems: folders that were left out.
        pages: file names of the pages that exist, to link to.
    """
    there = set(pages)
    header = [
        "dataset",
        "protocol",
        "preset",
        "mask",
        "split",
        "models",
        "runs",
        f"best by {_short(ORDER_BY)}",
        "",
    ]
    rows = [_index_row(board, there) for board in boards]
    parts = [
        GENERATED,
        "# Leaderboards\n",
        table(header, rows, left=5) if rows else "No finished runs yet.",
        "",
    ]
    parts.append(
        "`python benchmarks/report.py` makes these pages from the run folders; see each page for masks.\n"
    )
    if problems:
        parts.append("## Run folders with a problem\n")
        parts += [f"* {code(problem.name)}: {escape(problem.why)}" for problem in problems]
        parts.append("")
    return Page("README.md", "\n".join(parts))


def _index_row(board: Leaderboard, pages: set[str]) -> list[str]:
    """One table of the store in one line."""
    name = page_name(board.dataset)
    dataset = f"[{escape(board.dataset)}]({name})" if name in pages else escape(board.dataset)
    best = board.rows.iloc[0]
    return [
        dataset,
        escape(board.protocol),
        escape(board.preset),
        escape(board.mask),
        code(board.split_fingerprint[:8]),
        f"{board.rows['model'].nunique()}",
        f"{len(board.runs)}",
        escape(row_name(best.to_dict())),
        number(best[ORDER_BY], "{:.4f}".format),
    ]


def _short(metric: str) -> str:
    """`ndcg@10` → `N@10`."""
    return metric[0].upper() + metric[metric.index("@") :]


def datasets_of(boards: Iterable[Leaderboard]) -> list[str]:
    """Datasets with at least one table, sorted."""
    return [name for name, _ in groupby(sorted(board.dataset for board in boards))]


def page_text(page: Page) -> str:
    """A page for the terminal, without the remark for editors."""
    return page.text.removeprefix(f"{GENERATED}\n")


def write_pages(pages: Iterable[Page], out: Path) -> list[Path]:
    """Write pages into a folder; a page that would not change is not touched."""
    written = []
    for page in pages:
        path = out / page.name
        if not path.is_file() or path.read_text(encoding="utf-8") != page.text:
            with new_file(path) as temporary:
                temporary.write_text(page.text, encoding="utf-8")
        written.append(path)
    return written
