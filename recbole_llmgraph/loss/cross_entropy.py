"""Losses over all items, or all attributes, without the matrix of scores.

Rows are taken a few at a time, so that their scores stay in the processor's cache, and both gradients are
made on the way. Values and gradients are those of the plain formulas.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recbole_llmgraph.loss.product import times_transposed

LOG2_E = math.log2(math.e)
#: Scores held at once on a processor: 4 MB in fp32, which its cache takes.
SCORES_AT_ONCE = 1 << 20
#: The same on a GPU, whose kernels want more rows: 256 MB.
SCORES_AT_ONCE_GPU = 1 << 26
#: Scores `[rows, N]`, targets and weights of a few rows -> their summed loss and its slope in the scores.
Tile = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def item_cross_entropy(
    states: Tensor,
    items: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean of `-log softmax(states @ items.T + bias)[targets]`.

    Args:
        states: what each row predicts with. `[B, d]`
        items: vectors of all items. `[N, d]`
        targets: the right item of each row. `[B]`
        bias: of all items. `[N]`
        weights: how often each row stands in the mean; once without. `[B]`

    Returns:
        Scalar; zero when there are no rows.
    """
    total: Tensor = _TiledLoss.apply(states, items, bias, targets, _softmax_tile, weights)
    return total / (max(1, len(states)) if weights is None else weights.sum())


def label_cross_entropy(states: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Sum over rows and labels of the binary cross entropy of `sigmoid(states @ labels.T)`.

    Args:
        states: what each row predicts with. `[B, d]`
        labels: vectors of all labels. `[A, d]`
        targets: labels that hold for each row, each once, -1 for none. `[B, T]`

    Returns:
        Scalar.
    """
    total: Tensor = _TiledLoss.apply(states, labels, None, targets, _sigmoid_tile, None)
    return total


class _TiledLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        table: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        tile: Tile,
        weights: Tensor | None,
    ) -> Tensor:
        """Summed loss of all tiles; gradients are kept for the backward pass."""
        d_states, d_table = torch.zeros_like(states), torch.zeros_like(table)
        table_learns = ctx.needs_input_grad[1]
        d_bias = None if bias is None else torch.zeros_like(bias)
        total = states.new_zeros(())
        size = max(1, (SCORES_AT_ONCE_GPU if states.is_cuda else SCORES_AT_ONCE) // len(table))
        for start in range(0, len(states), size):
            rows = slice(start, start + size)
            scores = times_transposed(states[rows], table)
            if bias is not None:
                scores += bias
            loss, slope = tile(scores, targets[rows], None if weights is None else weights[rows])
            total += loss
            d_states[rows] = times_transposed(slope, table.T)
            if table_learns:
                d_table += times_transposed(slope.T, states[rows].T)
            if d_bias is not None:
                d_bias += slope.sum(dim=0)
        ctx.save_for_backward(d_states, d_table, d_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what the forward pass kept."""
        d_states, d_table, d_bias = ctx.saved_tensors
        d_bias = None if d_bias is None else d_bias * gradient
        return d_states * gradient, d_table * gradient, d_bias, None, None, None


def _softmax_tile(scores: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    rows = torch.arange(len(scores), device=scores.device)
    right = scores[rows, targets]
    top = scores.amax(dim=1, keepdim=True)
    scores.sub_(top).mul_(LOG2_E).exp2_()  # several times as fast as exp on a processor
    mass = scores.sum(dim=1, keepdim=True)
    losses = (mass.log() + top).squeeze(1).sub_(right)
    scores.div_(mass)
    scores[rows, targets] -= 1.0
    if weights is not None:
        losses.mul_(weights)
        scores.mul_(weights.unsqueeze(1))
    return losses.sum(), scores


def _sigmoid_tile(scores: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    rows, columns = (targets >= 0).nonzero(as_tuple=True)
    holding = targets[rows, columns]
    loss = F.softplus(scores).sum() - scores[rows, holding].sum()
    scores.sigmoid_()
    scores[rows, holding] -= 1.0
    return loss, scores
