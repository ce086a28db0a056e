"""The one seam to RecBole: its globals, its configuration, its data sets, its batches, its evaluator."""
