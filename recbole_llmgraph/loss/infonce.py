"""Contrastive losses: over all nodes of two views with streamed keys, and over given negatives."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recbole_llmgraph.loss.product import times_transposed

#: Anchors taken together; more only when the keys are few.
BLOCK = 1024
#: Exponentials held at a time. On a processor a tile must stay in the cache: writing all of
#: them out and reading them back costs more than computing them twice (measured).
TILE = {"cpu": 1 << 20, "cuda": 1 << 26}
#: Below this temperature exp(cos / tau) leaves float32, so each anchor's largest exponent is taken out first.
COLD = 0.02


def unit(x: Tensor) -> Tensor:
    """Rows of length one, `[n, d]`; a zero row stays zero and gets no gradient, never NaN."""
    return x * _inverse_norm(x)


def _inverse_norm(x: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    inverse: Tensor = norm.masked_fill(norm == 0, math.inf).reciprocal()
    return inverse


def cross_view_infonce(anchors: Tensor, z: Tensor, h: Tensor, tau: float, keep_self: bool = False) -> Tensor:
    """CL(z, h) of MMHCL and HeLLM over the given anchors.

        mean_x -log exp s(z_x, h_x) / (sum_y exp s(z_x, h_y) + sum_{y != x} exp s(z_x, z_y)),  s = cos / tau

    Keys are streamed in tiles and the gradient is found in the same call, so memory is that of `z` and
    `h` and one tile, for a thousand anchors as for all of them. Value and gradient are exact.

    Args:
        anchors: `[A]` rows of `z` that x runs over, at least one, repeats allowed. All rows give the full
            loss; rows drawn uniformly, an unbiased estimate of it and of its gradient.
        z: `[N, d]`, float32 or float64.
        h: `[N, d]`, the other view of the same nodes.
        tau: temperature, positive.
        keep_self: let y = x stand in the second sum too (HeLLM's eq. 7 as printed).

    Returns:
        Scalar.

    Raises:
        ValueError: views of different shape or of half precision, no anchors, or a temperature that is
            not positive.
    """
    if z.shape != h.shape or z.dim() != 2:
        raise ValueError(f"two views of the same nodes are needed, not {list(z.shape)} and {list(h.shape)}")
    if z.dtype != h.dtype or z.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"views must both be float32 or float64, not {z.dtype} and {h.dtype}")
    if anchors.dim() != 1 or not len(anchors):
        raise ValueError(f"anchors must be a list of at least one row, not {list(anchors.shape)}")
    if not tau > 0:
        raise ValueError(f"tau must be positive, not {tau}")
    differentiable = torch.is_grad_enabled() and (z.requires_grad or h.requires_grad)
    loss: Tensor = _CrossView.apply(anchors, z, h, float(tau), keep_self, differentiable)
    return loss


class _Tile(NamedTuple):
    """A block of anchors against some keys."""

    view: int  # 0: h, 1: z
    rows: slice  # of the view
    key: Tensor  # [t, d]
    exponents: Tensor  # [a, t] s / ln 2, or its transpose; -inf where an anchor meets itself in z


class _CrossView(torch.autograd.Function):
    """Loss and, when asked for, both gradients, block by block of anchors and tile by tile of keys."""

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        z: Tensor,
        h: Tensor,
        tau: float,
        keep_self: bool,
        differentiable: bool,
    ) -> Tensor:
        scales = _inverse_norm(h), _inverse_norm(z)
        views = h * scales[0], z * scales[1]
        gradients = [torch.zeros_like(view) for view in views] if differentiable else []
        total = z.new_zeros((), dtype=torch.float64)
        for ids in anchors.sort().values.split(BLOCK):
            total += _block(ids, views, tau, keep_self, gradients)
        if differentiable:
            ctx.save_for_backward(
                *(
                    _through_norm(gradient.div_(len(anchors)), view, scale)
                    for gradient, view, scale in zip(gradients, views, scales, strict=True)
                )
            )
        return (total / len(anchors)).to(z.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, Tensor, Tensor, None, None, None]:
        dh, dz = ctx.saved_tensors
        return None, dz * upstream[0], dh * upstream[0], None, None, None


def _through_norm(gradient: Tensor, view: Tensor, scale: Tensor) -> Tensor:
    """Gradient of x from that of x / |x|: the part across x, over |x|."""
    along = (gradient * view).sum(1, keepdim=True)
    return gradient.addcmul_(view, along, value=-1).mul_(scale)


def _block(
    ids: Tensor, views: tuple[Tensor, Tensor], tau: float, keep_self: bool, gradients: list[Tensor]
) -> Tensor:
    """Summed loss of one block of sorted anchors; adds to the gradients of the unit views `(h, z)`."""
    h, z = views
    own = z[ids]
    query = own * (math.log2(math.e) / tau)  # so that exp s = 2^(query . key)
    shift = _largest(ids, query, views) if tau < COLD else query.new_zeros(len(ids), 1)
    sums = own.new_zeros(len(ids), 1)
    pull = torch.zeros_like(own)
    for tile in _tiles(ids, query, views):
        powers = _powers(tile.exponents, shift, tau)
        sums += powers.sum(1, keepdim=True)
        if gradients:
            pull += times_transposed(powers, tile.key.T)
    if keep_self:  # a constant: cos(z_x, z_x) has no gradient
        sums += ((query * own).sum(1, keepdim=True) - shift).exp2_()
    positive = h[ids]
    logits = (query * positive).sum(1, keepdim=True) - shift
    loss = (sums.double().log() - logits.double() * math.log(2)).sum()
    if gradients:
        weight = (own / (tau * sums)).T
        for tile in _tiles(ids, query, views, transposed=True):
            powers = _powers(tile.exponents, shift.T, tau)
            gradients[tile.view][tile.rows] += times_transposed(powers, weight)
        gradients[0].index_add_(0, ids, own, alpha=-1 / tau)
        gradients[1].index_add_(0, ids, (pull / sums - positive) / tau)
    return loss


def _powers(exponents: Tensor, shift: Tensor, tau: float) -> Tensor:
    """Take exp s in place. `exp2` is several times as fast as `exp` on a processor (measured)."""
    if tau < COLD:
        exponents -= shift
    return exponents.exp2_()


def _tiles(
    ids: Tensor, query: Tensor, views: tuple[Tensor, Tensor], transposed: bool = False
) -> Iterator[_Tile]:
    """Stream the keys of both views past sorted anchors."""
    width = max(1, TILE.get(query.device.type, TILE["cuda"]) // len(ids))
    starts = range(0, len(views[0]), width)
    edges = torch.tensor([*starts, len(views[0])], device=ids.device)
    cuts = torch.searchsorted(ids, edges).tolist()  # anchors with ids inside each tile
    for view, keys in enumerate(views):
        for i, start in enumerate(starts):
            key = keys[start : start + width]
            exponents = times_transposed(key, query) if transposed else times_transposed(query, key)
            if view == 1 and cuts[i] < cuts[i + 1]:
                anchor = torch.arange(cuts[i], cuts[i + 1], device=ids.device)
                row = ids[cuts[i] : cuts[i + 1]] - start
                exponents[(row, anchor) if transposed else (anchor, row)] = -math.inf
            yield _Tile(view, slice(start, start + width), key, exponents)


def _largest(ids: Tensor, query: Tensor, views: tuple[Tensor, Tensor]) -> Tensor:
    """Largest exponent of each anchor. `[a, 1]`"""
    tops = [tile.exponents.amax(1, keepdim=True) for tile in _tiles(ids, query, views)]
    return torch.cat(tops, dim=1).amax(1, keepdim=True)


def infonce(
    anchor: Tensor, positive: Tensor, negatives: Tensor, tau: float, mask: Tensor | None = None
) -> Tensor:
    """Mean of -log exp s(a, p) / (exp s(a, p) + sum_q exp s(a, q)), s = cos / tau (GAL-Rec eq. 5-10, MoCo).

    Args:
        anchor: `[B, d]`.
        positive: `[B, d]`.
        negatives: `[Q, d]`, the same for every anchor; Q may be 0.
        tau: temperature, positive.
        mask: `[B, Q]`, True where a negative must not count (it is the positive's own entry).

    Returns:
        Scalar, zero where nothing is left to tell the positive from.
    """
    if not tau > 0:
        raise ValueError(f"tau must be positive, not {tau}")
    query = unit(anchor)
    chosen = (query * unit(positive)).sum(1, keepdim=True) / tau
    others = query @ unit(negatives).T / tau
    if mask is not None:
        others = others.masked_fill(mask, -math.inf)
    logits = torch.cat([chosen, others], dim=1)
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
