"""The one seam to RecBole: its globals, its configuration, its data sets, its batches, its evaluator.

Importing it puts the fixes of `compat` in place, so that a user's own RecBole script runs as soon as it
imports one of our models.
"""

from recbole_llmgraph.host.compat import apply

apply()
