"""The site: one page of all leaderboards and a page a run. Files only, no network, no server.

Style and script stand inside each page, so that a page may be copied anywhere. Every text passes through
Jinja2's autoescape; the only markup let through is this package's own.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from recbole_llmgraph.report.against import PublishedBeside
from recbole_llmgraph.report.claims import Judged, Ledger
from recbole_llmgraph.report.leaderboard import Leaderboard
from recbole_llmgraph.report.pages import contamination, datasets_of
from recbole_llmgraph.report.site_boards import board_view, run_href
from recbole_llmgraph.report.site_papers import ledger_view, published_view
from recbole_llmgraph.report.site_runs import run_view
from recbole_llmgraph.report.words import apart_words
from recbole_llmgraph.store.frame import run_groups
from recbole_llmgraph.store.record import RunRecord
from recbole_llmgraph.store.runs import StoredRun, StoredRuns, folder_name

TEMPLATES = Path(__file__).parent / "templates"
#: Written at the top of every page, and how pages of runs that are gone are known.
GENERATED = "<!-- made by benchmarks/report.py from the run folders; do not edit -->"
#: What a reader must know of published numbers and of verdicts, on a page that has less room.
PUBLISHED_WORDS = (
    "A run answers to a published row when dataset, protocol and mask are the same; of several the one that "
    "validated best speaks. Empty: not run. A dagger: used other than printed. Struck out: the metrics of "
    "that row contradict each other. Read the backbone before the numbers."
)
CLAIMS_WORDS = (
    "Reproduced: every comparison holds with its 95 % interval over users. Not reproduced: one lies wholly "
    "elsewhere. Undecided: an interval touches both. A verdict is about the backbone and budget of its runs."
)


@dataclass(frozen=True)
class Content:
    """What a site is made of."""

    boards: Sequence[Leaderboard]
    stored: StoredRuns
    published: Sequence[PublishedBeside] = ()
    ledgers: Sequence[tuple[Ledger, Sequence[Judged]]] = field(default_factory=tuple)


def write_site(content: Content, out: Path) -> list[Path]:
    """Write index and pages of runs into `out`; pages of runs that are gone are taken away.

    The same runs give the same bytes; a page that would not change is not touched.
    """
    pages = {Path("index.html"): index_page(content), **run_pages(content.stored)}
    for name, text in pages.items():
        _write(out / name, text)
    for old in (out / "runs").glob("*.html"):
        if old.relative_to(out) not in pages and GENERATED in old.read_text(encoding="utf-8")[:300]:
            old.unlink()
    return [out / "index.html"]


def index_page(content: Content) -> str:
    """The page of all leaderboards."""
    views = [(board, board_view(board)) for board in content.boards if len(board.rows)]
    datasets = []
    for name in datasets_of(board for board, _ in views):
        own = [board for board, _ in views if board.dataset == name]
        datasets.append(
            {
                "name": name,
                "id": f"set-{folder_name(name)}",
                "contamination": contamination(name),
                "apart": apart_words(own),
                "boards": [view for board, view in views if board.dataset == name],
            }
        )
    site = {
        "runs": f"{len(content.stored.runs):,}",
        "boards": views,
        "datasets": datasets,
        "filters": _filters([view for _, view in views]),
        "published": [published_view(beside) for beside in content.published],
        "ledgers": [ledger_view(ledger, judged) for ledger, judged in content.ledgers],
        "problems": content.stored.problems,
    }
    words = {"published_explained": PUBLISHED_WORDS, "claims_explained": CLAIMS_WORDS}
    return _render("index.html.j2", site=site, **words, script=_trusted("board.js"))


def run_pages(stored: StoredRuns) -> dict[Path, str]:
    """A page of every run, by its path in the site."""
    groups: dict[tuple[str, ...], list[StoredRun]] = defaultdict(list)
    hashes = run_groups([run.record for run in stored.runs])

    def alike(record: RunRecord) -> tuple[str, ...]:
        place = (record.dataset, record.protocol, record.preset, record.split_fingerprint)
        return (*place, record.model, record.variant, hashes[record.key])

    for run in stored.runs:
        groups[alike(run.record)].append(run)
    keys = {
        run.record.key: run_href(run.record.dataset, run.record.model, run.record.key) for run in stored.runs
    }
    pages = {}
    for run in stored.runs:
        siblings = sorted(groups[alike(run.record)], key=lambda other: other.record.seed)
        view = run_view(run, siblings, keys)
        pages[Path(run_href(run.record.dataset, run.record.model, run.record.key))] = _render(
            "run.html.j2", run=view
        )
    return pages


def _filters(views: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Choices of the page, by what there is."""
    made = []
    for name in ("dataset", "protocol", "mask", "preset"):
        there = list(dict.fromkeys(str(view[name]) for view in views))
        first = [("selected", "that chose epochs")] if name == "mask" else []
        options = [*first, ("", "all"), *((value, value) for value in sorted(there))]
        usual = "selected" if name == "mask" else ""
        made.append({"name": name, "title": name, "usual": usual, "options": options})
    backbones = sorted({str(row["backbone"]) for view in views for row in view["rows"]})
    options = [("", "all"), *((value, value) for value in backbones)]
    return [*made, {"name": "backbone", "title": "backbone", "usual": "", "options": options}]


@cache
def _environment() -> Any:
    """Jinja2 with autoescape for every template."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # a tenth of a second

    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


@cache
def _trusted(name: str) -> Any:
    """Style or script of this package, which is not escaped."""
    from markupsafe import Markup

    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _render(name: str, **values: Any) -> str:
    """A template filled in."""
    text: str = _environment().get_template(name).render(style=_trusted("style.css"), **values)
    return text


def _write(path: Path, text: str) -> None:
    """Put a page in place in one step, unless it stands there already; pages can always be made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
