#!/usr/bin/env python
"""Sweep a model's settings: figures at an equal budget, or a search that prunes; validation decides.

examples:
  python benchmarks/sweep.py --model=HeLLMPre --dataset=beauty --axis tau --axis knn_k=1,5,10,20
  python benchmarks/sweep.py --model=HeLLMPre --dataset=beauty,toys --axis 'alpha*beta' --set epochs=20
  python benchmarks/sweep.py --model=HeLLM --dataset=beauty --axis prefix_length --seeds 1,2,3
  python benchmarks/sweep.py --model=LightGCN --dataset=beauty --for tune --trials 20 --max-minutes 60
  python benchmarks/sweep.py --model=SASRec --dataset=beauty --for tune --axis learning_rate=1e-4..1e-2
  python benchmarks/sweep.py --model=HeLLMPre --dataset=beauty --axis tau --ray-address 192.0.2.1:6379
  python benchmarks/sweep.py --demo
"""

import sys

from recbole_llmgraph.suite.sweep.command import sweep_command

if __name__ == "__main__":
    sys.exit(sweep_command(__doc__, sys.argv[1:]))
