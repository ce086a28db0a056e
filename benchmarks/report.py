#!/usr/bin/env python
"""Leaderboards from stored runs: prints Markdown, writes Markdown, LaTeX and a site to reports/.

examples:
  python benchmarks/report.py
  python benchmarks/report.py --dataset beauty,sports --mask none
  python benchmarks/report.py --dataset beauty --expect HeLLM,SASRec,LightGCN
  python benchmarks/report.py --dataset beauty --paired HeLLM,SASRec
  python benchmarks/report.py --published hellm --dataset beauty
  python benchmarks/report.py --claims galrec,hellm
  python benchmarks/report.py --lists 3f2a91c0 --mask none --to lists.csv
  python benchmarks/report.py --publish
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_llmgraph.base.errors import UserError, unknown
from recbole_llmgraph.model.catalogue import PRESETS, model_cards
from recbole_llmgraph.report.against import beside
from recbole_llmgraph.report.against_page import published_page
from recbole_llmgraph.report.boards import choose, listed, read_boards, selected, write_reports
from recbole_llmgraph.report.claims import choose_ledgers, judge
from recbole_llmgraph.report.claims_page import claims_page
from recbole_llmgraph.report.leaderboard import Leaderboard
from recbole_llmgraph.report.pages import page_text, write_pages
from recbole_llmgraph.store.lists import read_lists, write_lists
from recbole_llmgraph.store.record import MASKS
from recbole_llmgraph.store.runs import PUBLISHED, TOPK, StoredRuns, publish


def names(text: str) -> list[str]:
    """`a,b` → list of names."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    summary, _, examples = (__doc__ or "").partition("\n\n")
    made = argparse.ArgumentParser(
        description=summary, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--store", type=Path, default=Path("runs"), help="folder of runs (default: runs/)")
    made.add_argument(
        "--out", type=Path, default=Path("reports"), help="folder of the pages (default: reports/)"
    )
    made.add_argument(
        "--dataset", type=names, default=[], help="datasets, comma list (default: all with runs)"
    )
    made.add_argument(
        "--mask", choices=MASKS, help="print this mask (default: the one that chose the epochs)"
    )
    made.add_argument("--preset", type=names, default=[], help="presets, comma list (default: all)")
    made.add_argument(
        "--expect",
        type=names,
        default=[],
        help="models that should have a row (SGL@sign: under one protocol); missing ones are named",
    )
    made.add_argument(
        "--paired",
        type=names,
        default=[],
        metavar="A,B",
        help="compare rows over the same users; A,all: with every other",
    )
    made.add_argument(
        "--published",
        type=names,
        nargs="?",
        const=[],
        metavar="TABLES",
        help="published | measured | difference, for all published tables or those whose name begins so",
    )
    made.add_argument(
        "--claims",
        type=names,
        nargs="?",
        const=[],
        metavar="PAPERS",
        help="verdicts on what the papers claim: all, or ledgers whose name begins so",
    )
    made.add_argument("--lists", metavar="KEY", help="export the top lists of the run whose key begins so")
    made.add_argument("--to", type=Path, help="file of exported lists, .csv or .tsv (.gz)")
    made.add_argument("--publish", action="store_true", help=f"first copy standard runs to {PUBLISHED}")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 for a mistake that the user can mend."""
    options = parser().parse_args(arguments)
    try:
        _report(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _report(options: argparse.Namespace) -> None:
    """Read, write the pages, print what was asked for."""
    roots = [options.store, PUBLISHED]
    boards, stored = read_boards(roots)
    datasets = _known(options.dataset, boards)
    _check(options, boards)
    if options.publish:
        _publish(stored, datasets)
        boards, stored = read_boards(roots)
    shown = choose(
        boards, datasets=datasets, masks=[options.mask] if options.mask else [], presets=options.preset
    )
    if not options.mask:
        shown = selected(shown)
    if options.lists:
        written = [_export(stored, options)]
    elif options.paired:
        written = _paired(shown, options)
    elif options.published is not None:
        written = _published(boards, datasets, options)
    elif options.claims is not None:
        written = _claims(boards, datasets, options)
    else:
        expectation = {"expect": options.expect, "presets": options.preset or ["standard"]}
        print(listed(shown, datasets, **expectation))
        every = choose(boards, presets=options.preset)
        written = write_reports(every, stored, options.out, datasets=datasets, **expectation)
        written += _site(boards, stored, options.out)
    print("written: " + ", ".join(str(path) for path in written), file=sys.stderr)


def _paired(shown: list[Leaderboard], options: argparse.Namespace) -> list[Path]:
    """Print and write a paired comparison."""
    from recbole_llmgraph.report.versus import compare_rows, paired_page  # scipy: half a second

    page = paired_page(compare_rows(shown, options.paired))
    print(page_text(page))
    return write_pages([page], options.out)


def _published(boards: list[Leaderboard], datasets: Sequence[str], options: argparse.Namespace) -> list[Path]:
    """Print published tables beside the store, and write the page of all of them."""
    print(page_text(published_page(beside(boards, options.published, datasets))))
    return write_pages([published_page(beside(boards), options.out)], options.out)


def _claims(boards: list[Leaderboard], datasets: Sequence[str], options: argparse.Namespace) -> list[Path]:
    """Print verdicts on claims, and write the page of all of them."""
    chosen = [(ledger, judge(ledger, boards, datasets)) for ledger in choose_ledgers(options.claims)]
    print(page_text(claims_page(chosen)))
    every = [(ledger, judge(ledger, boards)) for ledger in choose_ledgers([])]
    return write_pages([claims_page(every, options.out)], options.out)


def _site(boards: list[Leaderboard], stored: StoredRuns, out: Path) -> list[Path]:
    """Write the site, with all published tables and claims."""
    from recbole_llmgraph.report.latex import latex_pages  # the Styler: a quarter of a second
    from recbole_llmgraph.report.site import Content, write_site

    ruled = [(ledger, judge(ledger, boards)) for ledger in choose_ledgers([])]
    tables = beside(boards)
    pages = write_pages([published_page(tables, out), claims_page(ruled, out), *latex_pages(boards)], out)
    return pages + write_site(Content(boards, stored, tables, ruled), out / "site")


def _export(stored: StoredRuns, options: argparse.Namespace) -> Path:
    """Write the top lists of a run: user, item, rank."""
    found = [run for run in stored.runs if run.record.key.startswith(options.lists)]
    if len(found) != 1:
        told = ", ".join(f"{run.record.model} {run.record.key}" for run in found[:5]) or "none"
        raise UserError(f"--lists {options.lists}: {len(found)} runs have such a key ({told})")
    (run,) = found
    mask = options.mask or run.record.mask
    target = options.to or Path(f"lists-{run.record.dataset}-{run.record.model}-{run.record.key}-{mask}.csv")
    write_lists(read_lists(run.folder / TOPK, mask), target)
    return target


def _known(datasets: Sequence[str], boards: Sequence[Leaderboard]) -> list[str]:
    """Proper names of datasets; one that has no runs must at least be a known dataset or alias."""
    from recbole_llmgraph.data.catalogue import dataset_card

    there = {board.dataset for board in boards}
    return [name if name in there else dataset_card(name).name for name in datasets]


def _check(options: argparse.Namespace, boards: Sequence[Leaderboard]) -> None:
    """Presets and expected models that nobody knows."""
    for name in options.preset:
        if name not in PRESETS:
            raise unknown("preset", name, PRESETS)
    known = {*model_cards(), *(str(model) for board in boards for model in board.rows["model"])}
    for name in options.expect:
        if name.partition("@")[0] not in known:
            raise unknown("model", name, sorted(known))


def _publish(stored: StoredRuns, datasets: Sequence[str]) -> None:
    """Copy finished standard runs to where they are committed."""
    for run in stored.runs:
        if run.record.preset == "standard" and (not datasets or run.record.dataset in datasets):
            publish(run.folder)


if __name__ == "__main__":
    sys.exit(main())
