"""`benchmarks/sweep.py`: from arguments to trials, figures and, for a search, one tested choice."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.model.catalogue import model_card
from recbole_llmgraph.suite.command import guarded
from recbole_llmgraph.suite.options import Parser, add_common, listing, names, seeds
from recbole_llmgraph.suite.ray_pool import add_pool, check_address, read_pool

#: Where figures and their data are written.
OUT = Path("reports/sweeps")
#: Options that name folders.
FOLDERS = ("--store", "--data", "--source", "--out")
#: Invented sweeps that `--demo` draws.
DEMO = Path("tests/report/demo")


def sweep_command(doc: str | None, arguments: Sequence[str]) -> int:
    """Parse, run, draw; returns the exit code."""
    return guarded(lambda rest: _sweep(doc or "", rest))(arguments)


def sweep_parser(doc: str) -> Parser:
    """Options of the command."""
    parser = Parser(doc)
    add_common(parser)
    parser.add_argument(
        "--axis", action="append", default=[], metavar="NAME[=A,B,C]",
        help="repeatable: a declared axis, a setting with values or a range low..high, or 'alpha*beta'",
    )  # fmt: skip
    parser.add_argument(
        "--for", dest="purpose", choices=["figure", "tune"], default="figure",
        help="figure: every tick at an equal budget (default); tune: search, prune, test the choice once",
    )  # fmt: skip
    parser.add_argument(
        "--search", choices=["grid", "random", "optuna"], help="default: grid; optuna for tune"
    )
    parser.add_argument("--trials", type=int, default=16, help="draws of random and optuna (default: 16)")
    parser.add_argument("--max-minutes", type=float, help="stop then; the same command goes on")
    parser.add_argument(
        "--metric", type=names, default=[], help="validation metrics of a figure; the one that tune maximises"
    )
    parser.add_argument("--grace", type=int, help="tune: epochs before anything is pruned (default: a ninth)")
    parser.add_argument("--factor", type=int, default=3, help="tune: one in so many goes on (default: 3)")
    parser.add_argument(
        "--rerun", choices=["missing", "always", "never"], default="missing",
        help="missing (default); always: forget this sweep's trials first; never: draw what is there",
    )  # fmt: skip
    parser.add_argument("--name", help="folder under --out (default: from model, datasets and axes)")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder of figures (default: {OUT})")
    parser.add_argument("--draw", type=Path, nargs="+", metavar="FOLDER", help="draw finished sweeps again")
    parser.add_argument("--demo", action="store_true", help=f"draw the invented sweeps of {DEMO}")
    add_pool(parser, parallel=0)
    return parser


def _sweep(doc: str, arguments: Sequence[str]) -> int:
    options = sweep_parser(doc).parse_args(list(arguments))
    if "" not in sys.path:  # a user's own model class lies where the command is typed
        sys.path.append("")
    text = listing(options)
    if text is not None:
        print(text)
    elif options.demo or options.draw:
        _draw(options)
    else:
        _train(options, shown(arguments))
    return 0


def _draw(options: argparse.Namespace) -> None:
    """Figures again, from the data beside them; nothing is trained and nothing of RecBole imported."""
    from recbole_llmgraph.report.sweep_page import write_sweep
    from recbole_llmgraph.store.sweeps import read_sweep

    folders = options.draw or sorted(path.parent for path in DEMO.glob("*/sweep.json"))
    if not folders:
        raise UserError(f"--demo: no sweeps in {DEMO}; run it where the repository was cloned to")
    for folder in folders:
        out = options.out / folder.name if options.demo else folder
        for path in write_sweep(read_sweep(folder), out):
            print(path)


def _train(options: argparse.Namespace, command: str) -> None:
    """Every model that was named, on all datasets."""
    if not options.model or not options.dataset:
        raise UserError("name --model and --dataset (see --help, --list-models, --list-datasets)")
    _check_search(options)
    cards, datasets = [model_card(n) for n in options.model], [dataset_card(n) for n in options.dataset]
    if options.name and (len(cards) > 1 or (options.purpose == "tune" and len(datasets) > 1)):
        raise UserError(f"--name {options.name}: one name for several sweeps; leave it out")
    seeds(options.seeds)
    read_pool(options)
    check_address(options.ray_address)
    from recbole_llmgraph.suite.sweep import running  # torch and RecBole load here, after what is quick

    planned = [running.plan(options, card, datasets, command) for card in cards]
    running.check(options, planned)
    for request in planned:
        for line in request.lines():
            (print if options.dry_run else say)(line)
    if options.dry_run:
        return
    for request in planned:
        for text in request.run():
            print(text)


def shown(arguments: Sequence[str]) -> str:
    """The command as a page prints it: without folders, which are one machine's own."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word.partition("=")[0] in FOLDERS:
            if "=" not in word:
                next(words, None)
            continue
        kept.append(word)
    return shlex.join(["python", "benchmarks/sweep.py", *kept])


def _check_search(options: argparse.Namespace) -> None:
    """Options that contradict each other, and numbers that mean nothing."""
    if options.purpose == "figure" and options.search not in (None, "grid"):
        raise UserError(f"--search {options.search}: a figure runs every tick; add --for tune to search")
    if options.purpose == "tune" and len(options.metric) > 1:
        raise UserError(f"--metric {','.join(options.metric)}: a search maximises one metric")
    low = {"--trials": options.trials, "--grace": options.grace, "--max-minutes": options.max_minutes}
    for name, value in low.items():
        if value is not None and value <= 0:
            raise UserError(f"{name} {value:g}: expected a number above 0")
    if options.factor < 2:
        raise UserError(f"--factor {options.factor}: expected 2 or more")
