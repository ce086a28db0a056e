"""Tables and text from stored runs: data frames in, data frames and Markdown out.

Imports neither torch nor recbole.
"""
