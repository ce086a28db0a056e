"""Edges with learnt weights beside dense matrices: values, gradients, and one order of sums."""

from collections.abc import Callable

import pytest
import torch

from recbole_llmgraph.graph.edges import Edges

SIZE = (7, 5)


@pytest.fixture
def edges() -> Edges:
    """Eleven edges out of order; row 3 and column 4 have none."""
    rows = torch.tensor([6, 0, 0, 1, 2, 2, 4, 4, 5, 5, 6])
    columns = torch.tensor([3, 1, 0, 2, 0, 3, 1, 2, 3, 0, 0])
    return Edges(rows, columns, SIZE)


def dense(edges: Edges, values: torch.Tensor) -> torch.Tensor:
    return torch.zeros(SIZE, dtype=values.dtype).index_put((edges.rows, edges.columns), values)


def same(mine: Callable[..., torch.Tensor], theirs: Callable[..., torch.Tensor], *shapes: tuple) -> None:
    """Equal values, and equal gradients to every argument."""
    torch.manual_seed(0)
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    found, expected = mine(*arguments), theirs(*arguments)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    gradients = [torch.autograd.grad((out * weight).sum(), arguments) for out in (found, expected)]
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


def test_scores_are_inner_products(edges: Edges) -> None:
    same(edges.scores, lambda a, b: (a @ b.T)[edges.rows, edges.columns], (7, 4), (5, 4))


def test_gathering_is_a_matrix_product(edges: Edges) -> None:
    same(edges.gather, lambda values, x: dense(edges, values) @ x, (11,), (5, 4))


def test_sums_are_row_sums(edges: Edges) -> None:
    same(edges.sums, lambda values: dense(edges, values).sum(1), (11,))


def test_softmax_is_over_each_rows_edges(edges: Edges) -> None:
    def theirs(values: torch.Tensor) -> torch.Tensor:
        absent = torch.full(SIZE, -1e300, dtype=values.dtype)
        return torch.softmax(absent.index_put((edges.rows, edges.columns), values), 1)[
            edges.rows, edges.columns
        ]

    same(edges.softmax, theirs, (11,))
    large = torch.full((11,), 1e6)
    torch.testing.assert_close(edges.sums(edges.softmax(large)), (edges.sums(large) > 0).float())


def test_values_without_gradient_and_no_edges_at_all(edges: Edges) -> None:
    x = torch.randn(5, 2, requires_grad=True)
    edges.gather(torch.ones(11), x).sum().backward()
    met = torch.bincount(edges.columns, minlength=5).float()
    torch.testing.assert_close(x.grad, met[:, None].repeat(1, 2))
    none = torch.zeros(0, dtype=torch.long)
    empty = Edges(none, none, SIZE)
    assert empty.scores(torch.randn(7, 2), torch.randn(5, 2)).shape == (0,)
    assert torch.equal(empty.gather(torch.zeros(0), torch.randn(5, 2)), torch.zeros(7, 2))


def test_sums_have_one_order_whatever_the_threads() -> None:
    torch.manual_seed(0)
    pairs = torch.unique(torch.randint(0, 300 * 200, (9000,)))
    edges = Edges(pairs // 200, pairs % 200, (300, 200))
    a, b = torch.randn(300, 16, requires_grad=True), torch.randn(200, 16, requires_grad=True)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            y = edges.gather(edges.softmax(edges.scores(a, b)), b)
            found.append((y.detach(), *torch.autograd.grad(y.square().sum(), (a, b))))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
