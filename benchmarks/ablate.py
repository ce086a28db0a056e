#!/usr/bin/env python
"""Run a model and each of its declared variants on the same seeds; one table of what each part adds.

examples:
  python benchmarks/ablate.py --model=HeLLM --dataset=beauty
  python benchmarks/ablate.py --model=HeLLMPre,HeLLM --dataset=beauty --seeds 1,2,3
  python benchmarks/ablate.py --model=HeLLMPre --dataset=beauty --variants no_u2u,no_cl --parallel 2
  python benchmarks/ablate.py --model=HeLLM --dataset=beauty --rerun never --mask none
"""

import sys

from recbole_llmgraph.suite.ablate import ablate_command

if __name__ == "__main__":
    sys.exit(ablate_command(__doc__, sys.argv[1:]))
