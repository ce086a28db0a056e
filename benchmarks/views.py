#!/usr/bin/env python
"""Draw how encodings lie: GALRec's with and without its contrastive losses, or the nodes of graph models.

GALRec: the picture of GAL-Rec's Fig. 4. Encodings of zero, one and two hops projected to a circle, their
density in the plane and over the angle, and the uniformity of the encodings themselves; rows are drawn from
the training part. Graph models: the same picture of their users or items, as in SimGCL, and a table of how
even they lie and how far a node agrees with its own view in the contrast. Cells that are not finished are
trained first.

examples:
  python benchmarks/views.py --model=GALRec --dataset=toys
  python benchmarks/views.py --model=GALRec --dataset=beauty --set source=text --side item
  python benchmarks/views.py --model=LightGCN,SGL,XSimGCL --dataset=beauty
  python benchmarks/views.py --model=XSimGCL,LAGCL4Rec --dataset=ml-1m --protocol sign --with groups=none
"""

import sys

from recbole_llmgraph.suite.views import views_command

if __name__ == "__main__":
    sys.exit(views_command(__doc__, sys.argv[1:]))
