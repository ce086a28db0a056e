#!/usr/bin/env python
"""Score a file of top lists, so that a model trained elsewhere stands on the board.

The file has a line an item (user, item, rank or score; .csv, .tsv or .parquet) in the dataset's own ids, or
is the topk.parquet of a run. Lists must hold 20 items for metrics at 20, and leave out what --mask says.

examples:
  python benchmarks/score.py --topk lists.csv --name MyModel --dataset beauty
  python benchmarks/score.py --topk lists.tsv.gz --name MyModel --dataset yelp --mask none
  python benchmarks/score.py --complete      count recommended items for runs that were finished without
"""

import sys

from recbole_llmgraph.suite.score import score_command

if __name__ == "__main__":
    sys.exit(score_command(__doc__, sys.argv[1:]))
