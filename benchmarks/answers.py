#!/usr/bin/env python
"""Answers of language models that runs have kept: list their cost, export and import them.

examples:
  python benchmarks/answers.py                                  what is kept, and what it cost
  python benchmarks/answers.py --export answers.jsonl           replies without the text of the dataset
  python benchmarks/answers.py --export answers.jsonl --prompts --only openai:gpt-4o-mini@api.openai.com
  python benchmarks/answers.py --import answers.jsonl           someone else's answers; asked nowhere again
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.oracle.cache import ReplyCache
from recbole_llmgraph.oracle.cost import usage_table


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    summary, _, examples = (__doc__ or "").partition("\n\n")
    made = argparse.ArgumentParser(
        description=summary, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--store", type=Path, default=Path("runs"), help="folder of runs (default: runs/)")
    made.add_argument("--cache", type=Path, help="file of answers (default: oracle.sqlite of the store)")
    made.add_argument("--export", type=Path, metavar="FILE", help="write answers as JSON lines")
    made.add_argument("--only", metavar="MODEL", help="export one model's answers, named as the table does")
    made.add_argument("--prompts", action="store_true", help="export prompts too; mind the data's licence")
    made.add_argument(
        "--import", dest="load", type=Path, metavar="FILE", help="take over answers that were exported"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 for a mistake that the user can mend."""
    options = parser().parse_args(arguments)
    artifacts = Path(os.environ.get("RECBOLE_LLMGRAPH_ARTIFACTS") or options.store / "artifacts")
    cache = ReplyCache(options.cache or artifacts / "oracle.sqlite")
    try:
        print(_act(options, cache))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _act(options: argparse.Namespace, cache: ReplyCache) -> str:
    """Do what was asked for; what to print."""
    if options.load is not None and options.export is not None:
        raise UserError("--import and --export do not go together; type one after the other")
    if (options.only or options.prompts) and options.export is None:
        raise UserError("--only and --prompts say what to export; add --export FILE")
    if options.load is not None:
        new, known = cache.load(options.load)
        return f"{cache.path}: {new} new answers, {known} were there"
    if options.export is not None:
        models = {model for model, _ in cache.costs()}
        if options.only is not None and options.only not in models:
            raise UserError(f"no answers of '{options.only}'. Kept: {', '.join(sorted(models)) or 'none'}.")
        count = cache.export(options.export, model=options.only, prompts=options.prompts)
        return f"{options.export}: {count} answers"
    return usage_table(cache.costs())


if __name__ == "__main__":
    sys.exit(main())
