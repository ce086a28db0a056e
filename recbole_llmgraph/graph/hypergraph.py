"""Hypergraphs of MMHCL and HeLLM: users joined by items, items joined by similar content.

Both are products B W B' of an incidence matrix B (nodes x hyperedges) and a diagonal weight W of
hyperedges, normalised by rows or on both sides. B W B' is never built: on Amazon Beauty it has
5.3 million entries where B has 0.15 million.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recbole_llmgraph.graph.sparse import SparseMatrix, distinct_pairs


class _Hypergraph(nn.Module):
    """y = normalise(B W B' [- diag]) x for a binary incidence B `[n, m]`."""

    size: Tensor

    def __init__(self, incidence: SparseMatrix, keep_diagonal: bool, symmetric: bool) -> None:
        super().__init__()
        self.incidence = incidence
        self.keep_diagonal, self.symmetric = keep_diagonal, symmetric
        ones = incidence.values.new_ones(incidence.size[0], 1)
        # Nodes in each hyperedge; without the diagonal, those that a node meets besides itself.
        size = incidence.transposed_times(ones) - (0 if keep_diagonal else 1)
        self.register_buffer("size", size.clamp(min=0), persistent=False)

    @property
    def n_hyperedges(self) -> int:
        """Length of the weight vector."""
        return self.incidence.size[1]

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Spread `x` one step.

        Args:
            x: `[n, d]`.
            weight: `[n_hyperedges]`, non-negative; None is the identity. Differentiable.

        Returns:
            `[n, d]`; rows of nodes that meet no other (padding among them) are zero.
        """
        w = x.new_ones(self.n_hyperedges, 1) if weight is None else weight.view(-1, 1)
        degree = self.incidence(w * self.size)  # row sums of B W B' [- diag], without cancellation
        empty = degree <= 0
        inverse = degree.masked_fill(empty, 1).reciprocal().masked_fill(empty, 0)
        if self.symmetric:
            inverse = inverse.sqrt()
            x = inverse * x
        y = self.incidence(w * self._gather(x))
        if not self.keep_diagonal:
            y = y - self.incidence(w) * x
        return inverse * y

    def _gather(self, x: Tensor) -> Tensor:
        return _Transposed.apply(x, self.incidence)  # type: ignore[no-any-return]


class _Transposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, matrix):  # type: ignore[no-untyped-def]
        ctx.matrix = matrix
        return matrix.transposed_times(x)

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        return ctx.matrix.times(g.contiguous()), None


class UserHypergraph(_Hypergraph):
    """Users joined by common items: rownorm(A W A' - diag), items as hyperedges (HeLLM, SPEC 3.1)."""

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        n_users: int,
        n_items: int,
        keep_diagonal: bool = False,
        symmetric: bool = False,
    ) -> None:
        """Args: `[E]` ids of who used what (repeats count once), counts with padding, and the paper's
        wording of the matrix when both switches are on (its diagonal kept, symmetric normalisation).
        """
        users, items = distinct_pairs(users, items, (n_users, n_items))
        incidence = SparseMatrix(users, items, torch.ones(len(users)), (n_users, n_items))
        super().__init__(incidence, keep_diagonal, symmetric)


class ItemHypergraph(_Hypergraph):
    """Items joined by common neighbours: symnorm(I W I'), I = [I^v | I^t], each item its own neighbour."""

    def __init__(self, neighbours: Sequence[Tensor], n_items: int) -> None:
        """Args: one `[N, k]` list of item ids a modality (row r: neighbours of item r + 1, padding left
        out), and the number of items with padding.
        """
        rows, cols = [], []
        for modality, table in enumerate(neighbours):
            items = torch.arange(1, n_items).repeat_interleave(table.shape[1])
            row, col = distinct_pairs(items, table.reshape(-1), (n_items, n_items))
            rows.append(row)
            cols.append(col - 1 + modality * (n_items - 1))
        entries = torch.cat(rows), torch.cat(cols)
        size = (n_items, len(neighbours) * (n_items - 1))
        incidence = SparseMatrix(*entries, torch.ones(len(entries[0])), size)
        super().__init__(incidence, keep_diagonal=True, symmetric=True)
