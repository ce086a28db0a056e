#!/usr/bin/env python
"""Draw how GALRec's encodings of zero, one and two hops lie, with and without its contrastive losses.

The picture of GAL-Rec's Fig. 4: each view's encodings projected to a circle, their density in the plane
and over the angle, and the uniformity of the encodings themselves. Cells that are not finished are trained
first. Rows are drawn from the training part; the test part is not opened.

examples:
  python benchmarks/views.py --model=GALRec --dataset=toys
  python benchmarks/views.py --model=GALRec --dataset=beauty --set source=text --side item
"""

import sys

from recbole_llmgraph.suite.views import views_command

if __name__ == "__main__":
    sys.exit(views_command(__doc__, sys.argv[1:]))
