"""Cross entropy over all items without the `[B, N]` matrix of scores.

Rows are taken a few at a time, so that their scores stay in the processor's cache, and both gradients are
made on the way. Loss and gradients are those of `F.cross_entropy(states @ items.T + bias, targets)`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Scores held at once: 4 MB in fp32.
SCORES_AT_ONCE = 1 << 20


def item_cross_entropy(states: Tensor, items: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    """Mean of `-log softmax(states @ items.T + bias)[targets]`.

    Args:
        states: what each row predicts with. `[B, d]`
        items: vectors of all items. `[N, d]`
        targets: the right item of each row. `[B]`
        bias: of all items. `[N]`

    Returns:
        Scalar; zero when there are no rows.
    """
    loss: Tensor = _ItemCrossEntropy.apply(states, items, targets, bias)
    return loss


class _ItemCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, targets: Tensor, bias: Tensor | None) -> Tensor:
        """Loss of all tiles; gradients are kept for the backward pass."""
        n_rows = len(states)
        d_states, d_items = torch.zeros_like(states), torch.zeros_like(items)
        d_bias = None if bias is None else torch.zeros_like(bias)
        total = states.new_zeros(())
        tile = max(1, SCORES_AT_ONCE // len(items))
        for start in range(0, n_rows, tile):
            rows = slice(start, start + tile)
            loss, slope = _tile(states[rows], items, targets[rows], bias, 1.0 / n_rows)
            total += loss
            torch.mm(slope, items, out=d_states[rows])
            d_items.addmm_(slope.T, states[rows])
            if d_bias is not None:
                d_bias += slope.sum(dim=0)
        ctx.save_for_backward(d_states, d_items, d_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what the forward pass kept."""
        d_states, d_items, d_bias = ctx.saved_tensors
        return d_states * gradient, d_items * gradient, None, None if d_bias is None else d_bias * gradient


def _tile(
    states: Tensor, items: Tensor, targets: Tensor, bias: Tensor | None, weight: float
) -> tuple[Tensor, Tensor]:
    """Weighted loss of a few rows and its slope in their scores. `[] , [rows, N]`"""
    scores = states @ items.T if bias is None else torch.addmm(bias, states, items.T)
    rows = torch.arange(len(states), device=states.device)
    right = scores[rows, targets]
    top = scores.amax(dim=1, keepdim=True)
    scores.sub_(top).exp_()
    mass = scores.sum(dim=1, keepdim=True)
    loss = (mass.log() + top).squeeze(1).sub_(right).sum() * weight
    slope = scores.mul_(weight / mass)
    slope[rows, targets] -= weight
    return loss, slope
