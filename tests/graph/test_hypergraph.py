"""Hypergraph propagation against sums over pairs of nodes that share a hyperedge, written as loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.graph.hypergraph import ItemHypergraph, UserHypergraph
from recbole_llmgraph.graph.sparse import SparseMatrix

USERS, ITEMS = 7, 6
PAIRS = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), max_size=40)
VARIANTS = [(False, False), (False, True), (True, False), (True, True)]


def columns(pairs):
    both = torch.tensor(pairs, dtype=torch.long).view(-1, 2)
    return both[:, 0], both[:, 1]


def by_loops(incidence, weight, keep_diagonal, symmetric):
    """Normalised B W B' [- diag], entry by entry from a list of sets: hyperedges of each node."""
    n = len(incidence)
    s = torch.zeros(n, n, dtype=torch.double)
    for a in range(n):
        for b in range(n):
            if a != b or keep_diagonal:
                s[a, b] = sum(float(weight[e]) for e in incidence[a] & incidence[b])
    degree = [float(row.sum()) for row in s]
    for a in range(n):
        for b in range(n):
            if s[a, b]:
                s[a, b] /= (degree[a] * degree[b]) ** 0.5 if symmetric else degree[a]
    return s


def baskets(pairs):
    return [{i for u, i in pairs if u == a and u and i} for a in range(USERS)]


@settings(max_examples=80, deadline=None)
@given(
    PAIRS, st.sampled_from(VARIANTS), st.none() | st.lists(st.floats(0.1, 3), min_size=ITEMS, max_size=ITEMS)
)
def test_user_hypergraph_equals_loops(pairs, variant, weight):
    keep_diagonal, symmetric = variant
    graph = UserHypergraph(
        *columns(pairs), USERS, ITEMS, keep_diagonal=keep_diagonal, symmetric=symmetric
    ).double()
    given_weight = None if weight is None else torch.tensor(weight, dtype=torch.double)
    found = graph(torch.eye(USERS, dtype=torch.double), given_weight)
    expected = by_loops(baskets(pairs), weight or [1.0] * ITEMS, keep_diagonal, symmetric)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=2e-7)
    assert not found[0].any() and not found[:, 0].any()  # padding


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_rows_of_the_released_form_sum_to_one_or_zero(pairs):
    graph = UserHypergraph(*columns(pairs), USERS, ITEMS)
    matrix = graph(torch.eye(USERS))
    meets = [any(baskets(pairs)[a] & baskets(pairs)[b] for b in range(USERS) if b != a) for a in range(USERS)]
    torch.testing.assert_close(matrix.sum(1), torch.tensor(meets).float())
    assert matrix.diagonal().abs().max() < 1e-6


def test_a_user_who_meets_nobody_gets_exactly_zero():
    graph = UserHypergraph(torch.tensor([1, 1, 2, 3]), torch.tensor([1, 2, 3, 3]), 4, 4)
    x = torch.randn(4, 8) * 1e3
    assert torch.equal(graph(x)[:2], torch.zeros(2, 8))
    torch.testing.assert_close(graph(x)[2:], x[[3, 2]])
    assert torch.equal(graph(x, torch.rand(4))[:2], torch.zeros(2, 8))


NEIGHBOURS = st.lists(
    st.lists(
        st.lists(st.integers(1, ITEMS - 1), min_size=3, max_size=3), min_size=ITEMS - 1, max_size=ITEMS - 1
    ),
    min_size=1,
    max_size=2,
)


@settings(max_examples=60, deadline=None)
@given(NEIGHBOURS, st.booleans(), st.randoms(use_true_random=False))
def test_item_hypergraph_equals_loops(tables, weighted, random):
    edges = len(tables) * (ITEMS - 1)
    weight = [random.uniform(0.1, 3) for _ in range(edges)]
    incidence = [set()] + [
        {m * (ITEMS - 1) + j - 1 for m, table in enumerate(tables) for j in table[row]}
        for row in range(ITEMS - 1)
    ]
    graph = ItemHypergraph([torch.tensor(table) for table in tables], ITEMS).double()
    assert graph.n_hyperedges == edges
    found = graph(
        torch.eye(ITEMS, dtype=torch.double), torch.tensor(weight, dtype=torch.double) if weighted else None
    )
    expected = by_loops(incidence, weight if weighted else [1.0] * edges, True, True)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=2e-7)
    torch.testing.assert_close(found, found.T)
    assert not found[0].any()


@pytest.fixture
def pairs():
    torch.manual_seed(5)
    return torch.randint(1, USERS, (20,)), torch.randint(1, ITEMS, (20,))


@pytest.mark.parametrize(("keep_diagonal", "symmetric"), VARIANTS)
def test_gradients_to_nodes_and_weights(pairs, keep_diagonal, symmetric):
    graph = UserHypergraph(*pairs, USERS, ITEMS, keep_diagonal=keep_diagonal, symmetric=symmetric).double()
    x = torch.randn(USERS, 2, dtype=torch.double, requires_grad=True)
    weight = (torch.rand(ITEMS, dtype=torch.double) + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(graph, (x,))
    assert torch.autograd.gradcheck(graph, (x, weight))


def test_item_gradients_to_nodes_and_weights():
    torch.manual_seed(0)
    graph = ItemHypergraph([torch.randint(1, ITEMS, (ITEMS - 1, 2)) for _ in range(2)], ITEMS).double()
    x = torch.randn(ITEMS, 2, dtype=torch.double, requires_grad=True)
    weight = (torch.rand(graph.n_hyperedges, dtype=torch.double) + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(graph, (x,))
    assert torch.autograd.gradcheck(graph, (x, weight))


@pytest.mark.parametrize(("keep_diagonal", "symmetric"), VARIANTS)
def test_unit_weights_are_the_identity(pairs, keep_diagonal, symmetric):
    graph = UserHypergraph(*pairs, USERS, ITEMS, keep_diagonal=keep_diagonal, symmetric=symmetric)
    x = torch.randn(USERS, 3)
    torch.testing.assert_close(graph(x), graph(x, torch.ones(ITEMS)))


def test_only_itself_as_neighbour_is_the_identity():
    """knn_k = 1: no information, as the papers' sweep over K starts."""
    alone = torch.arange(1, ITEMS).view(-1, 1)
    x = torch.randn(ITEMS, 3)
    spread = ItemHypergraph([alone, alone], ITEMS)(x)
    torch.testing.assert_close(spread[1:], x[1:])
    assert not spread[0].any()


def test_the_product_is_never_built():
    """One item that everybody used: A A' has n^2 entries, what is kept has n."""
    n = 20_000
    graph = UserHypergraph(torch.arange(1, n), torch.ones(n - 1, dtype=torch.long), n, 2)
    kept = sum(len(part.values) for part in graph.modules() if isinstance(part, SparseMatrix))
    assert kept <= 3 * n
    x = torch.randn(n, 2)
    torch.testing.assert_close(graph(x)[1], x[2:].mean(0), rtol=1e-4, atol=1e-4)


def test_state_dict_stays_empty(pairs):
    assert not UserHypergraph(*pairs, USERS, ITEMS).state_dict()


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ([], "at least one modality"),
        ([torch.ones(3, 2, dtype=torch.long)], r"neighbours must be \[5, k\]"),
        ([torch.zeros(5, 2, dtype=torch.long)], "item ids from 1"),
        ([torch.full((5, 2), 6)], "column ids must lie in 0 .. 5"),
    ],
)
def test_tables_that_do_not_fit_are_told(tables, said):
    with pytest.raises(ValueError, match=said):
        ItemHypergraph(tables, ITEMS)
