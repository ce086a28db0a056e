"""Hypergraphs of MMHCL and HeLLM: users joined by items, items joined by similar content.

Both are products B W B' of an incidence matrix B (nodes x hyperedges) and a diagonal weight W of
hyperedges, normalised by rows or on both sides. B W B' is never built: on Amazon Beauty it has
5.3 million entries where B has 0.15 million.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recbole_llmgraph.graph.sparse import SparseMatrix, distinct_pairs


class Hypergraph(nn.Module):
    """x -> normalise(B W B' [- diag]) x for a binary incidence B `[n, m]`.

    With S = B W B', or S less its diagonal, and d the row sums of S: `symmetric` gives
    d^-1/2 S d^-1/2, otherwise d^-1 S. A node that meets no other has a zero row (and with the
    diagonal kept, a node in no hyperedge has).
    """

    others: Tensor
    own: Tensor

    def __init__(self, incidence: SparseMatrix, *, keep_diagonal: bool, symmetric: bool) -> None:
        """Args: binary `[n, m]` incidence, and the two switches of the normalisation."""
        super().__init__()
        self.incidence = incidence
        self.keep_diagonal, self.symmetric = keep_diagonal, symmetric
        values = incidence.values
        sizes = incidence.times_transposed(values.new_ones(incidence.size[0], 1))  # [m, 1]
        # What a member of a hyperedge meets in it: row sums of S without cancellation.
        self.register_buffer("others", sizes if keep_diagonal else (sizes - 1).clamp(min=0), persistent=False)
        scale = self._scale(values.new_ones(self.n_hyperedges, 1))
        diagonal = incidence.times(values.new_ones(self.n_hyperedges, 1)) * scale
        self.register_buffer("own", diagonal * scale if symmetric else diagonal, persistent=False)
        self.left = incidence.scaled(scale[:, 0])
        self.right = self.left if symmetric else incidence

    @property
    def n_hyperedges(self) -> int:
        """Length m of the weight vector."""
        return self.incidence.size[1]

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Spread `x` one step.

        Args:
            x: `[n, d]`.
            weight: `[m]`, non-negative, differentiable; None is the identity, and faster.

        Returns:
            `[n, d]`.
        """
        if weight is None:
            y: Tensor = _Identity.apply(x, self)
            return y
        w = weight.view(-1, 1)
        scale = self._scale(w)
        if self.symmetric:
            x = scale * x
        y = self.incidence(w * self.incidence.transposed(x))
        if not self.keep_diagonal:
            y = y - self.incidence(w) * x
        spread: Tensor = scale * y
        return spread

    def _scale(self, w: Tensor) -> Tensor:
        """d^-1, or d^-1/2 when symmetric; zero where d is. `[n, 1]`"""
        degree: Tensor = self.incidence(w * self.others)
        empty = degree <= 0
        inverse = degree.masked_fill(empty, 1).reciprocal().masked_fill(empty, 0)
        return inverse.sqrt() if self.symmetric else inverse


class _Identity(torch.autograd.Function):
    """y = L R' x - own x, with gradient R L' g - own g: no intermediate is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, graph: Hypergraph) -> Tensor:
        ctx.graph = graph
        return _spread(graph, x, graph.left, graph.right)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        graph = ctx.graph
        return _spread(graph, gradients[0], graph.right, graph.left), None


def _spread(graph: Hypergraph, x: Tensor, left: SparseMatrix, right: SparseMatrix) -> Tensor:
    y = left.times(right.times_transposed(x))
    return y if graph.keep_diagonal else y.addcmul_(graph.own, x, value=-1)


class UserHypergraph(Hypergraph):
    """Users joined by the items they share: rownorm(A W A' - diag), items as hyperedges (HeLLM, U2U)."""

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        n_users: int,
        n_items: int,
        *,
        keep_diagonal: bool = False,
        symmetric: bool = False,
    ) -> None:
        """Build from who used what; repeated pairs count once, pairs with padding are left out.

        Args:
            users: `[E]` user ids.
            items: `[E]` item ids, same order.
            n_users: number of users, padding included.
            n_items: number of items, padding included; also the number of hyperedges.
            keep_diagonal: with `symmetric`, the paper's wording; the released code has neither.
            symmetric: d^-1/2 S d^-1/2 in place of d^-1 S.
        """
        users, items = distinct_pairs(users, items, (n_users, n_items))
        incidence = SparseMatrix(users, items, torch.ones(len(users)), (n_users, n_items))
        super().__init__(incidence, keep_diagonal=keep_diagonal, symmetric=symmetric)


class ItemHypergraph(Hypergraph):
    """Items joined by common neighbours: symnorm(I W I'), I = [I^v | I^t] (HeLLM, I2I).

    I^m holds a one where item j is among the neighbours of item i in modality m, itself included;
    column j is a hyperedge.
    """

    def __init__(self, neighbours: Sequence[Tensor], n_items: int) -> None:
        """Build from neighbour lists.

        Args:
            neighbours: one `[n_items - 1, k]` table of item ids a modality; row r is item r + 1, as
                padding has none. Repeats in a row count once.
            n_items: number of items, padding included. Hyperedges: `n_items - 1` a modality.

        Raises:
            ValueError: no table, a table of another height, or an id outside `1 .. n_items - 1`.
        """
        if not neighbours:
            raise ValueError("an item hypergraph needs the neighbours of at least one modality")
        rows, cols = [], []
        for modality, table in enumerate(neighbours):
            if table.dim() != 2 or len(table) != n_items - 1:
                raise ValueError(f"neighbours must be [{n_items - 1}, k], not {list(table.shape)}")
            if table.numel() and int(table.min()) < 1:
                raise ValueError(f"neighbours must be item ids from 1, not {int(table.min())}")
            items = torch.arange(1, n_items, device=table.device).repeat_interleave(table.shape[1])
            row, col = distinct_pairs(items, table.reshape(-1), (n_items, n_items))
            rows.append(row)
            cols.append(col - 1 + modality * (n_items - 1))
        ids = torch.cat(rows), torch.cat(cols)
        size = (n_items, len(neighbours) * (n_items - 1))
        incidence = SparseMatrix(*ids, torch.ones(len(ids[0])), size)
        super().__init__(incidence, keep_diagonal=True, symmetric=True)
