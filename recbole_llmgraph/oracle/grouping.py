"""Groups without a language model: seeded k-means on vectors, each group named by its top terms."""

import math
from collections.abc import Sequence

import numpy as np

from recbole_llmgraph.oracle.vectors import tfidf, unit

#: Terms in a group's name.
TERMS = 3


def group_count(members: int) -> int:
    """√n rounded: how many groups when nobody says."""
    return max(1, round(math.sqrt(members)))


def k_means(rows: np.ndarray, count: int) -> np.ndarray:
    """Group of each row [n], numbered by first appearance; never more groups than distinct rows.

    Args:
        rows: [n, d].
        count: groups wanted.
    """
    from sklearn.cluster import KMeans

    count = min(count, len(np.unique(np.round(rows, 9), axis=0)))
    found = KMeans(count, n_init=10, random_state=0).fit_predict(rows)
    first: dict[int, int] = {}
    return np.array([first.setdefault(int(group), len(first)) for group in found])


def nearest(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Centroid [k, d] with the greatest cosine to each row [n, d]; the first of equal ones. [n]."""
    return np.asarray(np.argmax(np.round(unit(rows) @ unit(centroids).T, 6), axis=1))


def top_terms(texts: Sequence[str], groups: np.ndarray) -> list[list[str]]:
    """The words with the greatest mean TF-IDF in each group, best first; `group <n>` where none has any."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    count = int(groups.max()) + 1
    reader = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    try:
        weights = reader.fit_transform(texts)
    except ValueError:  # no words at all
        return [[f"group {group + 1}"] for group in range(count)]
    words = reader.get_feature_names_out()
    named = []
    for group in range(count):
        mean = np.round(np.asarray(weights[groups == group].mean(axis=0)).ravel(), 9)
        best = [int(at) for at in np.argsort(-mean, kind="stable")[:TERMS] if mean[at] > 0]
        named.append([str(words[at]) for at in best] or [f"group {group + 1}"])
    return named


def text_rows(texts: Sequence[str]) -> np.ndarray:
    """TF-IDF rows of texts, unit length."""
    return unit(tfidf(texts))
