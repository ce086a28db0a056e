"""The heuristic back-end: answers by arithmetic in the form of the templates. It is not a language model."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from recbole_llmgraph.oracle.backend import Call, Reply, Silence, Take
from recbole_llmgraph.oracle.cost import Price, Usage
from recbole_llmgraph.oracle.preference import preference
from recbole_llmgraph.oracle.questions import Question, Task
from recbole_llmgraph.oracle.vectors import ItemVectors

#: Rises when the same question would get another answer.
REVISION = 1


class HeuristicBackend:
    """Deterministic answers from vectors of items.

    Args:
        vectors: of every item that questions may name.
    """

    label = "heuristic (not an LLM)"
    decoding: Mapping[str, Any] = {}
    is_llm = False
    keeps = False
    price: Price | None = None

    def __init__(self, vectors: ItemVectors) -> None:
        self.vectors = vectors
        self.identity = f"heuristic.v{REVISION}:{vectors.identity}"

    def work(self, take: Take) -> Iterator[tuple[Call, Reply | Silence]]:
        """Answer call after call."""
        while (call := take()) is not None:
            yield call, Reply(ANSWERS[call.question.task](call.question, self.vectors), Usage())


def edge_pair(question: Question, vectors: ItemVectors) -> str:
    """Most and least preferred candidate; of equal ones, the first is the favourite, the last the least."""
    value = preference(question, vectors)
    favourite = int(np.argmax(value))
    least = len(value) - 1 - int(np.argmin(value[::-1]))
    return f"{question.offered[favourite]}::{question.offered[least]}"


ANSWERS: dict[Task, Callable[[Question, ItemVectors], str]] = {"edge_pair": edge_pair}
