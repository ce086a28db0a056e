"""What stands in for an answer that never became valid; always labelled `fallback`."""

from typing import Any

from recbole_llmgraph.oracle.questions import Question


def fallback(question: Question) -> Any:
    """The task's fallback: `edge_pair` goes without."""
    return None
