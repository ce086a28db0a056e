"""A user's preference without a language model: resemblance to what was liked, and a collaborative filter."""

from collections.abc import Sequence

import numpy as np

from recbole_llmgraph.oracle.questions import Question
from recbole_llmgraph.oracle.vectors import ItemVectors, unit


def preference(question: Question, vectors: ItemVectors) -> np.ndarray:
    """cos(item, mean liked) − ½ cos(item, mean disliked) + ½ z(score) of each offered item, [n].

    z is over the offered items; a part that is not known (nothing disliked, no scores, no vector) is 0.
    Rounded, so that the last digits of an SVD on another machine do not decide.
    """
    rows = vectors.of(question.offered)
    taste = cosines(rows, vectors.of(question.liked)) - 0.5 * cosines(rows, vectors.of(question.disliked))
    return np.round(taste + 0.5 * z_scores(question.scores, len(rows)), 6)


def cosines(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Cosine of each of `rows` [n, d] and the mean of `others` [m, d]; 0 when there are none. [n]."""
    if not len(others):
        return np.zeros(len(rows))
    return np.asarray(rows @ unit(others.mean(axis=0)))


def z_scores(scores: Sequence[float], count: int) -> np.ndarray:
    """Scores less their mean over their standard deviation; zeros when there are none or all are equal."""
    values = np.asarray(scores, dtype=np.float64)
    if not len(values) or values.std() == 0:
        return np.zeros(count)
    return np.asarray((values - values.mean()) / values.std())
