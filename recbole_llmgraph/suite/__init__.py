"""Cells (model x dataset x protocol x settings x seed), their keys, and running one or many."""
