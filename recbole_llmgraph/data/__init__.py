"""Datasets: cards, sources, converters to RecBole's atomic files, side tables. No torch, no recbole.

A source file becomes an atomic file in four rooms: `catalogue` (what a dataset is), `sources`
(where its files lie), `convert` (how a format is read) and `prepare` (check, number, write).
"""
