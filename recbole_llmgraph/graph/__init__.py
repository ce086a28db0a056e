"""Graphs of users and items, and the sparse products that spread vectors over them. Knows no RecBole."""
