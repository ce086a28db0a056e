"""`benchmarks/run.py`: from arguments to finished cells and a leaderboard."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.model.catalogue import model_card
from recbole_llmgraph.suite.options import COMMITTED, Parser, add_common, listing
from recbole_llmgraph.suite.ray_pool import add_pool, check_address


def guarded(main: Callable[[Sequence[str]], int]) -> Callable[[Sequence[str]], int]:
    """A command whose user errors are one line on standard error and exit code 2."""

    def command(arguments: Sequence[str]) -> int:
        try:
            return main(arguments)
        except UserError as error:
            say(f"error: {error}")
            return 2
        except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except KeyboardInterrupt:
            say("stopped; run the same command again to go on from the last checkpoint")
            return 130

    return command


def run_command(doc: str | None, arguments: Sequence[str]) -> int:
    """Parse, plan, run and print; returns the exit code."""
    return guarded(lambda rest: _run(doc or "", rest))(arguments)


def _parser(doc: str) -> argparse.ArgumentParser:
    parser = Parser(doc)
    add_common(parser)
    parser.add_argument(
        "--rerun", choices=["missing", "always", "never"], default="missing",
        help="missing: what --store and reports/runs do not hold (default); always: train the named models "
        "anew; never: print what is there",
    )  # fmt: skip
    parser.add_argument("--publish", action="store_true", help="copy finished runs to reports/runs")
    add_pool(parser, parallel=1)
    return parser


def _run(doc: str, arguments: Sequence[str]) -> int:
    parser = _parser(doc)
    options = parser.parse_args(list(arguments))
    if "" not in sys.path:  # a user's own model class lies where the command is typed
        sys.path.append("")
    text = listing(options)
    if text is not None:
        print(text)
        return 0
    if not options.model or not options.dataset:
        raise UserError("name --model and --dataset (see --help, --list-models, --list-datasets)")
    for name in options.model:
        model_card(name)
    for name in options.dataset:
        dataset_card(name)
    check_address(options.ray_address)
    if options.rerun != "never":
        # Imported here: listing, --help and wrong names answer without loading torch.
        from recbole_llmgraph.suite.many import run_many

        run_many(options)
    if not options.dry_run:
        _print_leaderboards(options)
    return 0


def _print_leaderboards(options: argparse.Namespace) -> None:
    from recbole_llmgraph.report.boards import boards_text

    roots = [root for root in (options.store, COMMITTED) if Path(root).is_dir()]
    names = [dataset_card(name).name for name in options.dataset]
    print(boards_text(roots, datasets=names, expect=options.model, preset=options.preset), file=sys.stdout)
