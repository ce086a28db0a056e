"""Vectors of items for the heuristic: given ones, or TF-IDF of their text reduced by a truncated SVD."""

from collections.abc import Sequence

import numpy as np

from recbole_llmgraph.base.hashing import hash_bytes
from recbole_llmgraph.oracle.questions import Item

WIDTH = 128


class ItemVectors:
    """Unit rows by item id.

    Args:
        ids: one a row.
        rows: [len(ids), d]; rows of zeros stay zero and resemble nothing.
        name: what made them, for reports.
    """

    def __init__(self, ids: Sequence[str], rows: np.ndarray, name: str) -> None:
        if len(ids) != len(rows) or len(set(ids)) != len(ids):
            raise ValueError(f"{len(set(ids))} distinct ids of {len(ids)} for {len(rows)} rows")
        self.rows = unit(np.asarray(rows, dtype=np.float64))
        self.name = name
        self._at = {name: i for i, name in enumerate(ids)}

    def __contains__(self, name: str) -> bool:
        return name in self._at

    @property
    def identity(self) -> str:
        """Name and hash of ids and rows."""
        names = "\n".join(self._at).encode()
        return f"{self.name}:{hash_bytes(names, np.float32(self.rows).tobytes())}"

    def of(self, ids: Sequence[str]) -> np.ndarray:
        """Rows [len(ids), d]; zeros for an id without a vector."""
        found = np.zeros((len(ids), self.rows.shape[1]))
        for row, name in enumerate(ids):
            if name in self._at:
                found[row] = self.rows[self._at[name]]
        return found


def text_vectors(items: Sequence[Item]) -> ItemVectors:
    """TF-IDF of title and details, 128 dimensions by a truncated SVD, fitted on these items."""
    return ItemVectors([item.id for item in items], tfidf([item.text for item in items]), "tfidf-svd128")


def tfidf(texts: Sequence[str]) -> np.ndarray:
    """Rows [len(texts), ≤128] of TF-IDF after a truncated SVD; zeros when no text holds a word."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        weights = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit_transform(texts)
    except ValueError:  # an empty vocabulary
        return np.zeros((len(texts), 1))
    width = min(WIDTH, *weights.shape)
    if width == weights.shape[1]:
        return np.asarray(weights.todense())
    return np.asarray(TruncatedSVD(width, random_state=0).fit_transform(weights))


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows [n, d] of length one, or zero where they were."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1.0))
