"""Edges whose weights learn: scores of edges, softmax over a node's edges, and weighted sums of neighbours.

A dense matrix of nodes is never built; memory is that of the edges and of the vectors.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recbole_llmgraph.graph.sparse import compressed_product


class Edges(nn.Module):
    """E directed edges from R receiving to C sending nodes: the pattern of a sparse `[R, C]` matrix.

    Values of edges stand in the order of rows, then columns, in which `rows` and `columns` give the edges.
    Buffers move with `.to(device)` and stay out of the state dict.
    """

    rows: Tensor
    columns: Tensor
    starts: Tensor
    short_columns: Tensor
    t_starts: Tensor
    t_columns: Tensor
    t_order: Tensor

    def __init__(self, rows: Tensor, columns: Tensor, size: tuple[int, int]) -> None:
        """Args: positions `[E]`, each at most once, in any order; numbers of rows and columns."""
        super().__init__()
        self.size = size
        order = torch.argsort(rows * size[1] + columns)
        rows, columns = rows[order], columns[order]
        t_order = torch.argsort(columns, stable=True)
        parts = {
            "rows": rows,
            "columns": columns,
            # 32-bit ids halve the traffic.
            "starts": _starts(rows, size[0]),
            "short_columns": columns.int(),
            "t_starts": _starts(columns, size[1]),
            "t_columns": rows[t_order].int(),
            "t_order": t_order,
        }
        for name, ids in parts.items():
            self.register_buffer(name, ids, persistent=False)

    def scores(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner product of both ends of each edge, differentiable once. `[R, d], [C, d]` to `[E]`"""
        found: Tensor = _Scores.apply(a, b, self)
        return found

    def gather(self, values: Tensor, x: Tensor) -> Tensor:
        """Sum of neighbours, each times its edge's value, differentiable once. `[E], [C, d]` to `[R, d]`"""
        found: Tensor = _Gather.apply(values, x, self)
        return found

    def sums(self, values: Tensor) -> Tensor:
        """Sum of values over each row's edges, zero for a row without edges. `[E]` to `[R]`"""
        ones = values.new_ones(self.size[1], 1)
        return self.gather(values, ones)[:, 0]

    def softmax(self, values: Tensor) -> Tensor:
        """Softmax over each row's edges. `[E]`"""
        top = values.new_full((self.size[0],), -torch.inf)
        top = top.scatter_reduce(0, self.rows, values.detach(), "amax")
        powers = (values - top[self.rows]).exp()
        shares: Tensor = powers / self.sums(powers)[self.rows]
        return shares

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """`scores` without autograd."""
        if a.is_cuda or not len(self.rows):
            return (a[self.rows] * b[self.columns]).sum(1)
        pattern = torch.sparse_csr_tensor(
            self.starts, self.short_columns, a.new_ones(len(self.rows)), self.size, check_invariants=False
        )
        products: Tensor = torch.sparse.sampled_addmm(pattern, a, b.T, beta=0.0).values()
        return products

    def times(self, values: Tensor, x: Tensor) -> Tensor:
        """`gather` without autograd."""
        return compressed_product(self.starts, self.short_columns, values, self.size, x)

    def times_transposed(self, values: Tensor, y: Tensor) -> Tensor:
        """Sums over the edges of each sending node, without autograd. `[E], [R, d]` to `[C, d]`"""
        size = self.size[1], self.size[0]
        return compressed_product(self.t_starts, self.t_columns, values[self.t_order], size, y)


def _starts(keys: Tensor, n: int) -> Tensor:
    """Where the entries of each key begin among sorted ones. `[n + 1]`"""
    counts = torch.bincount(keys, minlength=n)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()


class _Scores(torch.autograd.Function):
    """s_e = <a_r, b_c>; both gradients are weighted sums over edges."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, edges: Edges) -> Tensor:
        ctx.edges = edges
        ctx.save_for_backward(a, b)
        return edges.dot(a, b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        a, b = ctx.saved_tensors
        to_a, to_b, _ = ctx.needs_input_grad
        values = gradients[0].contiguous()
        return (
            ctx.edges.times(values, b) if to_a else None,
            ctx.edges.times_transposed(values, a) if to_b else None,
            None,
        )


class _Gather(torch.autograd.Function):
    """y_r = sum_e v_e x_c; the gradient of a value is the inner product of its two ends."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, edges: Edges) -> Tensor:
        ctx.edges = edges
        ctx.save_for_backward(values, x)
        return edges.times(values, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, x = ctx.saved_tensors
        to_values, to_x, _ = ctx.needs_input_grad
        g = gradients[0].contiguous()
        return (
            ctx.edges.dot(g, x) if to_values else None,
            ctx.edges.times_transposed(values, g) if to_x else None,
            None,
        )
