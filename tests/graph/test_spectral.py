"""Clusters of items that occur together: counts by hand, codes told apart, planted groups found."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from recbole_llmgraph.graph.spectral import cluster_codes, item_codes, split, together


def test_items_of_one_history_are_counted_once_a_history() -> None:
    histories = {1: [1, 2, 3], 2: [2, 3], 3: [4]}
    users, items = np.array([(u, i) for u, history in histories.items() for i in history]).T
    expected = np.zeros((6, 6))
    for history in histories.values():
        for a, b in combinations(history, 2):
            expected[a, b] += 1
            expected[b, a] += 1
    np.testing.assert_array_equal(together(users, items, (4, 6)).toarray(), expected)


def planted(groups: int, size: int) -> csr_matrix:
    """Groups of items that occur together, hardly ever with others."""
    rng = np.random.default_rng(0)
    dense = rng.random((groups * size, groups * size)) < 0.02
    for group in range(groups):
        dense[group * size : (group + 1) * size, group * size : (group + 1) * size] = True
    dense = dense | dense.T
    np.fill_diagonal(dense, False)
    return csr_matrix(dense.astype(float))


def test_planted_groups_are_found() -> None:
    parts = split(planted(4, 15), 4, 20)
    assert sorted(tuple(part // 15) for part in parts) == [(group,) * 15 for group in range(4)]


def test_large_groups_are_split_again() -> None:
    codes = cluster_codes(planted(6, 20), 3, 25)
    assert len(codes[0]) >= 2 and max(map(len, codes)) <= 5
    firsts = [{tuple(codes[20 * group + place][:-1]) for place in range(20)} for group in range(6)]
    assert sum(map(len, firsts)) <= 10


@settings(max_examples=25)
@given(st.integers(2, 60), st.integers(2, 5), st.integers(0, 4), st.integers(0, 10**6))
def test_no_code_begins_another(n_items: int, clusters: int, more: int, seed: int) -> None:
    """Whatever the graph: empty, in pieces, of one item; with items that nobody met."""
    rng = np.random.default_rng(seed)
    leaf, count = clusters + more, int(rng.integers(1, 60))
    users, items = rng.integers(1, 12, count), rng.integers(1, n_items + 1, count)
    order = rng.permutation(n_items) + 1
    leaf = max(leaf, 12)
    table = item_codes(users, items, order, 12, clusters, leaf)
    assert table.shape[0] == n_items + 1 and (table[0] == 0).all() and table.max() <= leaf
    codes = [tuple(piece for piece in code if piece) for code in table[1:].tolist()]
    assert all(codes) and len(set(codes)) == n_items
    ordered = sorted(codes)
    assert not any(b[: len(a)] == a for a, b in pairwise(ordered))


@pytest.mark.parametrize("edges", [0, 3])
def test_a_graph_that_cannot_be_split_is_cut(edges: int) -> None:
    dense = np.zeros((30, 30))
    dense[:edges, :edges] = 1
    np.fill_diagonal(dense, 0)
    parts = split(csr_matrix(dense), 4, 10)
    assert sorted(np.concatenate(parts).tolist()) == list(range(30)) and 2 <= len(parts) <= 4
