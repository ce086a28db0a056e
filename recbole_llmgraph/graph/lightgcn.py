"""LightGCN propagation: no weights, no non-linearity, the mean over layers."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_llmgraph.graph.sparse import SparseMatrix


def light_propagation(adjacency: SparseMatrix, x: Tensor, n_layers: int) -> Tensor:
    """Mean over l = 0 .. `n_layers` of A^l x (He et al., LightGCN, SIGIR 2020, eq. 4 with equal weights).

    Args:
        adjacency: `[n, n]`.
        x: `[n, d]`.
        n_layers: at least 0; 0 returns `x`.

    Returns:
        `[n, d]`.

    Raises:
        ValueError: a negative number of layers.
    """
    if n_layers < 0:
        raise ValueError(f"n_layers must be at least 0, not {n_layers}")
    mean: Tensor = _LayerMean.apply(x, adjacency, n_layers)
    return mean


class _LayerMean(torch.autograd.Function):
    """Horner's scheme, x + A(x + A(x + ...)): one vector is held, and the backward is the same with A'."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, adjacency: SparseMatrix, n_layers: int) -> Tensor:
        ctx.adjacency, ctx.n_layers = adjacency, n_layers
        return _horner(adjacency.times, x, n_layers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _horner(ctx.adjacency.times_transposed, gradients[0], ctx.n_layers), None, None


def _horner(times: Any, x: Tensor, n_layers: int) -> Tensor:
    total = x
    for _ in range(n_layers):
        total = times(total).add_(x)
    return total / (n_layers + 1)
