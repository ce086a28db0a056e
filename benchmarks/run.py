#!/usr/bin/env python
"""Train and judge models on datasets; finished cells are never trained twice.

examples:
  python benchmarks/run.py --model=HeLLM --dataset=sports
  python benchmarks/run.py --model=LightGCN,SASRec,HeLLM --dataset=beauty --seeds 1,2,3
  python benchmarks/run.py --model=HeLLM --dataset=ml-100k --preset quick
  python benchmarks/run.py --model=HeLLMPre --dataset=beauty --set knn_k=5 --set tau=0.3
  python benchmarks/run.py --model=HeLLM --dataset=beauty --set SASRec.epochs=30 --dry-run
  python benchmarks/run.py --model=LLMPNGNN --dataset=ml-1m --set oracle=openai:gpt-4o-mini --dry-run
  python benchmarks/run.py --describe HeLLM
"""

import sys

from recbole_llmgraph.suite.command import run_command

if __name__ == "__main__":
    sys.exit(run_command(__doc__, sys.argv[1:]))
