"""Sweeps: axes, trials on validation alone, figures at an equal budget, and searches that prune."""
