#!/usr/bin/env python
"""Prepare datasets: find the source files, check them, write RecBole's atomic files."""

import argparse
import os
import sys
from pathlib import Path

EXAMPLES = """\
examples:
  python benchmarks/prepare.py --dataset ml-100k          ships with RecBole, no download
  python benchmarks/prepare.py --dataset beauty,sports --source ~/recsys-data
  python benchmarks/prepare.py --dataset beauty           from $RECBOLE_LLMGRAPH_SOURCES, or downloaded
  python benchmarks/prepare.py --list-datasets
"""


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    made = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--dataset", default="", metavar="NAMES", help="comma list of names, or paths of cards (.yaml)"
    )
    made.add_argument(
        "--source", type=Path, metavar="DIR", help="folder with the source files, looked at first"
    )
    made.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("RECBOLE_LLMGRAPH_DATA", "data")),
        metavar="DIR",
        help="where prepared datasets lie (default $RECBOLE_LLMGRAPH_DATA or ./data)",
    )
    made.add_argument("--on-bad-rows", choices=("error", "skip"), default="error", help="default: error")
    made.add_argument("--force", action="store_true", help="make it anew even when it is ready")
    made.add_argument(
        "--list-datasets", action="store_true", help="show every dataset and whether it is ready"
    )
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 when all is ready, 2 for a mistake that the user can mend."""
    from recbole_llmgraph.base.errors import UserError

    options = parser().parse_args(argv)
    try:
        if options.list_datasets:
            _list(options.data)
        elif not options.dataset:
            raise UserError(
                "no dataset given. Type --dataset NAME[,NAME…]; --list-datasets shows what there is"
            )
        else:
            _prepare(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _prepare(options: argparse.Namespace) -> None:
    from recbole_llmgraph.data.catalogue import dataset_card
    from recbole_llmgraph.data.prepare import prepare

    cards = [dataset_card(name.strip()) for name in options.dataset.split(",") if name.strip()]
    for card in cards:
        made = prepare(
            card, options.data, source=options.source, on_bad_rows=options.on_bad_rows, force=options.force
        )
        print(f"{card.name}: ready in {made.folder}")
        for note in made.manifest["notes"]:
            print(f"  note: {note}")


def _list(data: Path) -> None:
    from recbole_llmgraph.data.catalogue import dataset_cards
    from recbole_llmgraph.data.prepare import prepared

    for card in dataset_cards():
        counts = card.counts
        ready = "ready" if prepared(card, data) else "not prepared"
        print(
            f"{card.name:<8} {counts.users:>7,} users {counts.items:>7,} items "
            f"{counts.interactions:>9,} interactions"
            f"  {','.join(card.protocols):<13} {ready:<12}  {card.title}"
        )


if __name__ == "__main__":
    sys.exit(main())
