"""Codes of items from spectral clusters of the graph of items that occur together, split again and again.

A code is the way from the root to an item: one cluster a level, then the item's place in its last cluster.
Items of one cluster share the beginning of their codes.
"""

import warnings
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from recbole_llmgraph.base.progress import say

Ids = npt.NDArray[np.int64]


def together(users: Ids, items: Ids, sizes: tuple[int, int]) -> csr_matrix:
    """How often two items stand in one user's history; the diagonal is empty.

    Args:
        users: of every interaction. `[E]`
        items: its item. `[E]`
        sizes: users U and items N, padding included.

    Returns:
        `[N, N]`, symmetric.
    """
    met = csr_matrix((np.ones(len(users)), (users, items)), sizes)
    counts = (met.T @ met).tocsr()
    counts.setdiag(0)
    counts.eliminate_zeros()
    return counts


def cluster_codes(affinity: csr_matrix, clusters: int, leaf: int) -> list[list[int]]:
    """Code of every row of a graph.

    A group of more than `leaf` rows is split into at most `clusters`. Tokens of clusters run from 0 to
    `leaf - 1` and round again, in the order in which clusters are found; the last token is the row's place in
    its group. So siblings differ, and no code begins another.

    Args:
        affinity: symmetric, at least 0. `[n, n]`
        clusters: most clusters of one group, at most `leaf`.
        leaf: most rows of a group that is not split again.

    Returns:
        Tokens below `leaf` for each row, in the rows' order.
    """
    codes: list[list[int]] = [[] for _ in range(affinity.shape[0])]
    waiting, found = deque([np.arange(affinity.shape[0])]), 0
    while waiting:
        rows = waiting.popleft()
        if len(rows) <= leaf:
            for place, row in enumerate(rows):
                codes[row].append(place)
            continue
        for part in split(affinity[rows][:, rows], clusters, leaf):
            for row in rows[part]:
                codes[row].append(found % leaf)
            found += 1
            waiting.append(rows[part])
    return codes


def split(affinity: csr_matrix, clusters: int, leaf: int) -> list[Ids]:
    """Rows of each spectral cluster, in order; stretches of `leaf` rows where there is but one cluster."""
    labels = _labels(affinity, min(clusters, affinity.shape[0]))
    parts = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if len(parts) > 1:
        return parts
    size = max(leaf, -(-len(labels) // clusters))
    return [np.arange(start, min(start + size, len(labels))) for start in range(0, len(labels), size)]


def _labels(affinity: csr_matrix, clusters: int) -> Any:
    """scikit-learn's spectral clustering on a sparse graph, without the random starts of k-means."""
    from sklearn.cluster import SpectralClustering

    if affinity.nnz == 0 or clusters < 2:
        return np.zeros(affinity.shape[0], dtype=np.int64)
    solver = SpectralClustering(
        clusters, affinity="precomputed", assign_labels="cluster_qr", eigen_solver="lobpcg", random_state=0
    )
    with warnings.catch_warnings():
        # A graph of several components is no mistake here, nor is an eigenvector good to three digits.
        warnings.simplefilter("ignore", UserWarning)
        return solver.fit(affinity).labels_


def item_codes(users: Ids, items: Ids, order: Ids, n_users: int, clusters: int, leaf: int) -> Ids:
    """Codes of all items by training interactions.

    Items that nobody met in training form groups of their own, of at most `leaf`.

    Args:
        users: of every training interaction. `[E]`
        items: its item. `[E]`
        order: all items but padding, in an order that knows nothing of histories. `[N - 1]`
        n_users: U with padding.
        clusters: as in `cluster_codes`.
        leaf: as there.

    Returns:
        Tokens from 1 to `leaf`, 0 on the right. `[N, C]`
    """
    counts = together(users, items, (n_users, len(order) + 1))
    seen = np.isin(order, items)
    met, unmet = order[seen], order[~seen]
    say(f"  clusters of {len(met):,} items that occur together")
    codes = cluster_codes(counts[met][:, met], clusters, leaf)
    tops = len({code[0] for code in codes if len(code) > 1})
    one_group = tops == 0
    ways = dict(zip(met.tolist(), [[0, *code] if one_group else code for code in codes], strict=True))
    for number, item in enumerate(unmet.tolist()):
        group, place = divmod(number, leaf)
        ways[item] = [(max(1, tops) + group) % leaf, place]
    table = np.zeros((len(order) + 1, max(map(len, ways.values()))), dtype=np.int64)
    for item, code in ways.items():
        table[item, : len(code)] = np.asarray(code) + 1
    return table
