"""SparseMatrix against dense products, distinct_pairs against a set of Python."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import EdgeIndex

from recbole_llmgraph.graph.sparse import SparseMatrix, distinct_pairs

IDS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), max_size=30)


def made(rows: int = 7, cols: int = 5, share: float = 0.4) -> tuple[SparseMatrix, torch.Tensor]:
    torch.manual_seed(0)
    dense = torch.randn(rows, cols) * (torch.rand(rows, cols) < share)
    at = dense.nonzero()
    at = at[torch.randperm(len(at))]  # any order must do
    return SparseMatrix(at[:, 0], at[:, 1], dense[at[:, 0], at[:, 1]], (rows, cols)), dense


def test_products_and_gradients_equal_dense_ones():
    matrix, dense = made()
    matrix, dense = matrix.double(), dense.double()
    x = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    y = torch.randn(7, 3, dtype=torch.double, requires_grad=True)
    torch.testing.assert_close(matrix @ x, dense @ x)
    torch.testing.assert_close(matrix.transposed(y), dense.T @ y)
    assert torch.autograd.gradcheck(matrix, (x,))
    assert torch.autograd.gradcheck(matrix.transposed, (y,))


def test_gradient_of_a_transposed_view_of_the_output():
    """An upstream gradient need not be contiguous."""
    matrix, dense = made()
    x = torch.randn(5, 3, requires_grad=True)
    weight = torch.randn(3, 7)
    (found,) = torch.autograd.grad((matrix(x).T * weight).sum(), x)
    torch.testing.assert_close(found, dense.T @ weight.T)


def test_equals_edge_index():
    matrix, dense = made(6, 6)
    at = dense.nonzero().T.contiguous()
    index = EdgeIndex(at, sparse_size=(6, 6), sort_order="row").fill_cache_()
    x = torch.randn(6, 4, requires_grad=True)
    theirs = index.matmul(x, input_value=dense[at[0], at[1]])
    torch.testing.assert_close(matrix(x), theirs)
    weight = torch.randn(6, 4)
    torch.testing.assert_close(
        torch.autograd.grad((matrix(x) * weight).sum(), x), torch.autograd.grad((theirs * weight).sum(), x)
    )


def test_scaled_rows():
    matrix, dense = made()
    scale = torch.rand(7)
    x = torch.randn(5, 2)
    torch.testing.assert_close(matrix.scaled(scale)(x), scale[:, None] * dense @ x)
    torch.testing.assert_close(matrix(x), dense @ x)


def test_an_empty_matrix_gives_zeros():
    none = torch.empty(0, dtype=torch.long)
    matrix = SparseMatrix(none, none, torch.empty(0), (3, 2))
    assert torch.equal(matrix(torch.randn(2, 4)), torch.zeros(3, 4))
    assert torch.equal(matrix.transposed(torch.randn(3, 4)), torch.zeros(2, 4))


def test_keeps_out_of_the_state_dict_and_survives_a_copy():
    matrix, dense = made()
    assert not matrix.state_dict()
    x = torch.randn(5, 2)
    torch.testing.assert_close(copy.deepcopy(matrix)(x), dense @ x)
    assert repr(matrix) == f"SparseMatrix(7 x 5, {int((dense != 0).sum())} entries)"


@settings(max_examples=60, deadline=None)
@given(IDS)
def test_distinct_pairs_are_the_sorted_set_without_padding(pairs):
    rows, cols = (torch.tensor([p[i] for p in pairs], dtype=torch.long) for i in (0, 1))
    found = list(zip(*(ids.tolist() for ids in distinct_pairs(rows, cols, (7, 5))), strict=True))
    assert found == sorted({(r, c) for r, c in pairs if r and c})


@pytest.mark.parametrize(
    ("rows", "cols", "said"),
    [
        ([1, 7], [1, 1], "row ids must lie in 0 .. 6, not 1 .. 7"),
        ([1, 2], [1, -1], "column ids must lie in 0 .. 4, not -1 .. 1"),
        ([1, 2], [1], "two lists of one length"),
    ],
)
def test_ids_out_of_range_are_told(rows, cols, said):
    with pytest.raises(ValueError, match=said):
        distinct_pairs(torch.tensor(rows), torch.tensor(cols), (7, 5))
