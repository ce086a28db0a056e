"""InfoNCE between two views in which nodes of one group count otherwise than the rest (LAGCL4Rec)."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_llmgraph.loss.infonce import _inverse_norm, _through_norm
from recbole_llmgraph.loss.product import times_transposed

#: Exponentials held at a time on a processor; see `loss/infonce.py`.
TILE = 1 << 20
#: Below this temperature exp(cos / tau) leaves float32.
COLDEST = 0.02


class Temperatures(NamedTuple):
    """What a cosine is divided by, by what its pair is."""

    positive: float
    """The same node in the other view."""
    same: float
    """Another node of the same group."""
    rest: float
    """A node of another group."""


def group_temperatures(tau: float, *, equal: bool = False) -> Temperatures:
    """LAGCL4Rec's: tau, max(0.1 tau, 0.1) and max(0.25 tau, 0.1); or tau for all.

    A positive warmer than the rest makes the loss fall when all cosines do, its own among them; with equal
    ones a common shift changes nothing.
    """
    if equal:
        return Temperatures(tau, tau, tau)
    return Temperatures(tau, max(0.1 * tau, 0.1), max(0.25 * tau, 0.1))


def group_infonce(
    anchors: Tensor, views: Tensor, groups: Tensor | None, tau: Temperatures, same_weight: float
) -> Tensor:
    """Mean over nodes a of l_a, Group-InfoNCE of LAGCL4Rec; plain InfoNCE without groups.

        l_a = -ln e^(c_aa/tp) / (e^(c_aa/tp) + w sum_{same group} e^(c_ab/ts) + sum_{rest} e^(c_ab/tr))

    over b != a, with c_ab = cos(anchors_a, views_b). A tile of anchors meets all views at once; the nodes are
    sorted by group, so that those of a group are a block of the tile. Nothing is ever `n * n`, let alone a
    group deep. Value and gradients are exact and found in the same call.

    Args:
        anchors: `[n, d]`, float32 or float64, at least one row.
        views: `[n, d]`, the other view of the same nodes.
        groups: `[n]` group of each node; None puts every other node into the rest.
        tau: temperatures, at least `COLDEST` each.
        same_weight: w, not negative.

    Returns:
        Scalar.

    Raises:
        ValueError: views of different shape, no nodes, or numbers out of range.
    """
    if anchors.shape != views.shape or anchors.dim() != 2 or not len(anchors):
        told = f"{list(anchors.shape)} and {list(views.shape)}"
        raise ValueError(f"two views of at least one node are needed, not {told}")
    if min(tau) < COLDEST or same_weight < 0:
        told = f"temperatures {tuple(tau)} and weight {same_weight}"
        raise ValueError(f"{told}: at least {COLDEST} and 0 are allowed")
    edges = None
    if groups is not None:
        order = torch.argsort(groups, stable=True)
        anchors, views = anchors[order], views[order]
        edges = torch.cat([order.new_zeros(1), torch.bincount(groups).cumsum(0)]).unique().tolist()
    differentiable = torch.is_grad_enabled() and (anchors.requires_grad or views.requires_grad)
    loss: Tensor = _GroupInfoNCE.apply(anchors, views, edges, tau, same_weight, differentiable)
    return loss


class _GroupInfoNCE(torch.autograd.Function):
    """Loss and both gradients, tile by tile of anchors, over nodes sorted by group."""

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        views: Tensor,
        edges: list[int] | None,
        tau: Temperatures,
        same_weight: float,
        differentiable: bool,
    ) -> Tensor:
        scales = _inverse_norm(anchors), _inverse_norm(views)
        a, v = anchors * scales[0], views * scales[1]
        da, dv = torch.empty_like(a), torch.zeros_like(v)
        total = a.new_zeros((), dtype=torch.float64)
        height = max(1, TILE // len(a))
        for start in range(0, len(a), height):
            rows = slice(start, min(start + height, len(a)))
            powers, sums, positive = _powers(a[rows], v, rows.start, edges, tau, same_weight)
            total += (sums.double().log() - positive.double() / tau.positive).sum()
            if differentiable:
                slopes = _slopes(powers.div_(sums.unsqueeze(1)), rows.start, edges, tau)
                da[rows] = times_transposed(slopes, v.T)
                dv += times_transposed(slopes.T, a[rows].T)
        if differentiable:
            ctx.save_for_backward(
                _through_norm(da.div_(len(a)), a, scales[0]), _through_norm(dv.div_(len(a)), v, scales[1])
            )
        return (total / len(a)).to(a.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        da, dv = ctx.saved_tensors
        return da * upstream[0], dv * upstream[0], None, None, None, None


def _powers(
    a: Tensor, v: Tensor, start: int, edges: list[int] | None, tau: Temperatures, same_weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Terms of the denominator `[t, n]`, their sums `[t]` and the positives' cosines `[t]`."""
    cosines = times_transposed(a, v)
    own = torch.arange(len(a), device=a.device)
    positive = cosines[own, own + start]
    blocks = [(block, cosines[block].clone()) for block in _blocks(start, len(a), edges)]
    powers = cosines.mul_(math.log2(math.e) / tau.rest).exp2_()
    for block, inside in blocks:
        powers[block] = inside.mul_(math.log2(math.e) / tau.same).exp2_().mul_(same_weight)
    powers[own, own + start] = (positive / tau.positive).exp()
    return powers, powers.sum(1), positive


def _slopes(shares: Tensor, start: int, edges: list[int] | None, tau: Temperatures) -> Tensor:
    """Derivative of each anchor's loss by its cosines, in place of the shares. `[t, n]`"""
    own = torch.arange(len(shares), device=shares.device)
    positive = (shares[own, own + start] - 1) / tau.positive
    shares.div_(tau.rest)
    for block in _blocks(start, len(shares), edges):
        shares[block] *= tau.rest / tau.same
    shares[own, own + start] = positive
    return shares


def _blocks(start: int, height: int, edges: list[int] | None) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each group that the tile from `start` meets."""
    for low, high in itertools.pairwise(edges) if edges else ():
        if low < start + height and high > start:
            yield slice(max(low, start) - start, min(high, start + height) - start), slice(low, high)
