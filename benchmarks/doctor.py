#!/usr/bin/env python
"""Look at this machine: versions, what is missing or conflicting and what mends it, cores, memory, GPU, data.

Exit code 0: fine; 1: something to mend.

examples:
  python benchmarks/doctor.py
  python benchmarks/doctor.py --deep      also imports torch and RecBole and computes with them
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

try:
    from recbole_llmgraph.suite.doctor import diagnose, healthy, report
except ModuleNotFoundError:  # nothing is installed yet, which is when a doctor is called
    sys.path.insert(0, str(ROOT))
    from recbole_llmgraph.suite.doctor import diagnose, healthy, report


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the findings; 1 when something needs mending."""
    summary, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deep", action="store_true", help="import torch and RecBole and compute with them")
    default = Path(os.environ.get("RECBOLE_LLMGRAPH_DATA") or "data")
    parser.add_argument("--data", type=Path, default=default, help="folder of prepared datasets")
    options = parser.parse_args(arguments)
    found = diagnose(ROOT, options.data, deep=options.deep)
    print(report(found))
    return 0 if healthy(found) else 1


if __name__ == "__main__":
    sys.exit(main())
