"""Finished runs: one folder a run, whole or absent; two stores merge by copying.

Imports neither torch nor recbole.
"""
