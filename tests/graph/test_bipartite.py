"""The normalised bipartite graph and LightGCN's propagation against loops over edges, and PyG's own layer."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn import LGConv

from recbole_llmgraph.graph.bipartite import bipartite_adjacency, mean_adjacency, propagate
from recbole_llmgraph.graph.lightgcn import light_propagation

USERS, ITEMS = 7, 5
#: Padding, repeats, isolated nodes and the empty graph among them.
PAIRS = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), max_size=40)


def columns(pairs: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    both = torch.tensor(pairs, dtype=torch.long).view(-1, 2)
    return both[:, 0], both[:, 1]


def by_loops(pairs: list[tuple[int, int]]) -> torch.Tensor:
    """1 / sqrt(d_u d_i) for each pair, both ways."""
    edges = {(u, i) for u, i in pairs if u and i}
    matrix = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.double)
    for u, i in edges:
        degree_u = sum(1 for v, _ in edges if v == u)
        degree_i = sum(1 for _, j in edges if j == i)
        value = 1 / math.sqrt(degree_u * degree_i)
        matrix[u, USERS + i] = matrix[USERS + i, u] = value
    return matrix


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_matrix_equals_loops_over_edges(pairs):
    matrix = bipartite_adjacency(*columns(pairs), USERS, ITEMS)(torch.eye(USERS + ITEMS))
    torch.testing.assert_close(matrix, by_loops(pairs).float())
    assert torch.equal(matrix, matrix.T)
    for padding in (0, USERS):
        assert not matrix[padding].any()
        assert not matrix[:, padding].any()
    assert torch.isfinite(matrix).all()


@settings(max_examples=30, deadline=None)
@given(PAIRS)
def test_means_are_over_a_node_and_its_neighbours(pairs):
    x = torch.arange((USERS + ITEMS) * 2.0, dtype=torch.double).view(-1, 2).sin()
    neighbours: dict[int, set[int]] = {node: {node} for node in range(USERS + ITEMS)}
    for u, i in ((u, USERS + i) for u, i in pairs if u and i):
        neighbours[u].add(i)
        neighbours[i].add(u)
    expected = torch.stack([x[sorted(neighbours[node])].mean(0) for node in range(USERS + ITEMS)])
    found = mean_adjacency(*columns(pairs), USERS, ITEMS)(x.float())
    torch.testing.assert_close(found, expected.float())


@settings(max_examples=30, deadline=None)
@given(PAIRS, st.randoms(use_true_random=False))
def test_order_and_repeats_change_nothing(pairs, random):
    x = torch.arange((USERS + ITEMS) * 2.0).view(-1, 2).sin()
    once = bipartite_adjacency(*columns(pairs), USERS, ITEMS)(x)
    again = pairs + pairs[: len(pairs) // 2]
    random.shuffle(again)
    assert torch.equal(once, bipartite_adjacency(*columns(again), USERS, ITEMS)(x))


@settings(max_examples=30, deadline=None)
@given(PAIRS)
def test_norm_never_grows(pairs):
    """The spectrum of D^-1/2 A D^-1/2 lies in [-1, 1]."""
    torch.manual_seed(0)
    adjacency = bipartite_adjacency(*columns(pairs), USERS, ITEMS)
    x = torch.randn(USERS + ITEMS, 3)
    assert (propagate(adjacency, x).norm(dim=0) <= x.norm(dim=0) * (1 + 1e-5)).all()


@pytest.fixture
def pairs() -> list[tuple[int, int]]:
    torch.manual_seed(3)
    return [
        (int(u), int(i)) for u, i in zip(torch.randint(1, 6, (14,)), torch.randint(1, 5, (14,)), strict=True)
    ]


@pytest.mark.parametrize("n_layers", [0, 1, 2, 4])
def test_light_propagation_is_the_mean_over_layers(pairs, n_layers):
    adjacency, dense = bipartite_adjacency(*columns(pairs), USERS, ITEMS).double(), by_loops(pairs)
    x = torch.randn(USERS + ITEMS, 3, dtype=torch.double, requires_grad=True)
    layers = [x]
    for _ in range(n_layers):
        layers.append(dense @ layers[-1])
    found = light_propagation(adjacency, x, n_layers)
    torch.testing.assert_close(found, torch.stack(layers).mean(0), rtol=1e-6, atol=1e-7)
    assert torch.autograd.gradcheck(lambda x: light_propagation(adjacency, x, n_layers), (x,))


def test_light_propagation_leaves_its_input_alone(pairs):
    adjacency = bipartite_adjacency(*columns(pairs), USERS, ITEMS)
    x = torch.randn(USERS + ITEMS, 3)
    before = x.clone()
    light_propagation(adjacency, x, 0).add_(1)
    light_propagation(adjacency, x, 2)
    assert torch.equal(x, before)


def test_equals_layers_of_pyg(pairs):
    adjacency = bipartite_adjacency(*columns(pairs), USERS, ITEMS)
    users, items = columns(sorted(set(pairs)))
    edges = torch.stack([torch.cat([users, items + USERS]), torch.cat([items + USERS, users])])
    layer = LGConv()
    x = torch.randn(USERS + ITEMS, 4)
    first = layer(x, edges)
    torch.testing.assert_close(propagate(adjacency, x), first)
    torch.testing.assert_close(light_propagation(adjacency, x, 2), (x + first + layer(first, edges)) / 3)


def test_nodes_without_edges_keep_a_share_of_themselves(pairs):
    adjacency = bipartite_adjacency(*columns(pairs), USERS, ITEMS)
    x = torch.randn(USERS + ITEMS, 4)
    torch.testing.assert_close(light_propagation(adjacency, x, 2)[[0, USERS]], x[[0, USERS]] / 3)


def test_a_negative_number_of_layers_is_told(pairs):
    adjacency = bipartite_adjacency(*columns(pairs), USERS, ITEMS)
    with pytest.raises(ValueError, match="n_layers must be at least 0"):
        light_propagation(adjacency, torch.randn(USERS + ITEMS, 4), -1)
