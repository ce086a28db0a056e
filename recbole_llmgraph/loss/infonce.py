"""Contrastive losses: over all nodes of two views with streamed keys, and over given negatives."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

#: Exponentials kept at a time (entries): anchors are taken in blocks of this many over the keys.
KEPT = 16_000_000
#: Keys a tile.
TILE = 2048


def cross_view_infonce(anchors: Tensor, z: Tensor, h: Tensor, tau: float) -> Tensor:
    """CL(z, h) of MMHCL / HeLLM over the given anchors.

        mean_x -log exp s(z_x, h_x) / (sum_y exp s(z_x, h_y) + sum_{y != x} exp s(z_x, z_y)),  s = cos / tau

    Args:
        anchors: `[A]` rows of `z` that x runs over; all rows for the full loss. Drawn uniformly, the
            value and its gradient are unbiased estimates of the full ones.
        z: `[N, d]`.
        h: `[N, d]`.
        tau: temperature, positive.

    Returns:
        Scalar.
    """
    loss: Tensor = _CrossView.apply(anchors, F.normalize(z, dim=1), F.normalize(h, dim=1), tau)
    return loss


class _CrossView(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchors: Tensor, z: Tensor, h: Tensor, tau: float) -> Tensor:
        keys = (h, z)
        grads = [torch.zeros_like(h), torch.zeros_like(z)]
        total = z.new_zeros(())
        block = max(32, KEPT // (2 * len(z)))
        for rows in anchors.split(block):
            own = z[rows] / tau
            kept, sums, pull = [], z.new_zeros(len(rows), 1), torch.zeros_like(own)
            for side, key in enumerate(keys):
                for start in range(0, len(key), TILE):
                    tile = key[start : start + TILE]
                    e = (own @ tile.T).sub_(1 / tau).exp_()
                    if side == 1:
                        inside = ((rows >= start) & (rows < start + len(tile))).nonzero().view(-1)
                        e[inside, rows[inside] - start] = 0
                    sums += e.sum(1, keepdim=True)
                    pull.addmm_(e, tile)
                    kept.append((side, start, e))
            positive = h[rows]
            total += (sums.log() + 1 / tau).sum() - (own * positive).sum()
            scaled = own / sums
            for side, start, e in kept:
                grads[side][start : start + e.shape[1]].addmm_(e.T, scaled)
            grads[0].index_add_(0, rows, own, alpha=-1)
            grads[1].index_add_(0, rows, (pull / sums - positive) / tau)
        n = len(anchors)
        ctx.save_for_backward(*(g.div_(n) for g in grads))
        return total / n

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor, None]:
        dh, dz = ctx.saved_tensors
        return None, dz * gradients[0], dh * gradients[0], None
