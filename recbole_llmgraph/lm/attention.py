"""T5's self-attention over packed prompts in one pass over the line, forward and backward (see `fused.py`).

Softmax is made of powers of two without the shift by each row's maximum, which costs as much as all the rest
of it; where a row's sum of powers could be too large or too small for that, the pass is made again with it.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_llmgraph.lm.fused import ROWS, NormedProduct, fuses, kept, rate_of, unit_rows
from recbole_llmgraph.lm.packed import Packed
from recbole_llmgraph.loss.product import times_transposed

LOG2_E = math.log2(math.e)
#: Sums of powers, and what they are one over, that need no shift.
SAFE = 2.0**90


def attend(layer: Any, hidden: Tensor, bias: Tensor, packed: Packed) -> Tensor | None:
    """What a `T5LayerSelfAttention` answers, its residual included.

    Args:
        layer: the layer.
        hidden: `[T, D]`.
        bias: of positions. `[1, h, L, L]`
        packed: how prompts lie in the line.

    Returns:
        `[T, D]`; None where the layer has to be called part by part.
    """
    own = layer.SelfAttention
    projections = [own.q, own.k, own.v, own.o]
    if not fuses(hidden, *projections):
        return None
    rates = own.dropout if own.training else 0.0, rate_of(layer.dropout)
    shapes = [(count, own.n_heads, length, length) for count, length in packed.groups]
    masks = [kept(shape, rates[0], hidden) for shape in shapes]
    outer = kept((len(hidden), hidden.shape[1]), rates[1], hidden)
    eps, keeps = layer.layer_norm.variance_epsilon, torch.is_grad_enabled()
    how = How(packed.groups, own.n_heads, eps, rates, masks, outer, keeps)
    weights = (part.weight for part in projections)
    found: Tensor = SelfAttention.apply(hidden, layer.layer_norm.weight, *weights, bias, how)
    return found


@dataclass(frozen=True)
class How:
    """What a pass goes by.

    Attributes:
        groups: number and length of the prompts of each length.
        heads: h.
        eps: of the norm.
        rates: of dropout, on attention and on the result.
        masks: what dropout keeps of each group's attention; None where it keeps all. `[n, h, L, L]`
        outer: what it keeps of the result. `[T, D]`
        keeps: whether a backward pass will follow.
    """

    groups: list[tuple[int, int]]
    heads: int
    eps: float
    rates: tuple[float, float]
    masks: list[Tensor | None]
    outer: Tensor | None
    keeps: bool


class Block(NamedTuple):
    """n prompts of L tokens: where they lie in a stretch, and what dropout keeps of them. `[n h, L, L]`"""

    rows: slice
    prompts: int
    length: int
    mask: Tensor | None


def stretches(how: How) -> list[tuple[slice, list[Block]]]:
    """The line in parts of some `ROWS` tokens, none of which cuts a prompt."""
    found: list[tuple[slice, list[Block]]] = []
    start = size = 0
    blocks: list[Block] = []
    for (count, length), mask in zip(how.groups, how.masks, strict=True):
        most = max(1, ROWS // length)
        for first in range(0, count, most):
            some = min(most, count - first)
            if blocks and size + some * length > ROWS:
                found.append((slice(start, start + size), blocks))
                start, size, blocks = start + size, 0, []
            of_mask = None if mask is None else mask[first : first + some].flatten(0, 1)
            blocks.append(Block(slice(size, size + some * length), some, length, of_mask))
            size += some * length
    return [*found, (slice(start, start + size), blocks)] if blocks else found


class SelfAttention(torch.autograd.Function):
    """`x + D2(o(D1(softmax(q k' + bias)) v))` inside each prompt, q, k and v of `norm(x)`, dropout D1, D2.

    Shapes: T tokens, D width, h heads of width w, L tokens of the longest prompt.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        norm: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        bias: Tensor,
        how: How,
    ) -> Tensor:
        """`[T, D]`, the norm's `[D]`, three `[hw, D]`, `[D, hw]` and the bias `[1, h, L, L]` to `[T, D]`"""
        ctx.how = how
        product = NormedProduct(norm, (query, key, value), ctx.needs_input_grad[1:5])
        for shifted in (False, True):
            result, made, sums = _forward(hidden, product, out, bias[0] * LOG2_E, how, shifted)
            least, most = torch.cat(sums).aminmax() if sums else (1.0, 1.0)
            if least > 1 / SAFE and most < SAFE:
                break
        ctx.save_for_backward(hidden, norm, query, key, value, out, bias, *made)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """To the tokens, the five weights and the bias."""
        hidden, norm, query, key, value, out, bias, *made = ctx.saved_tensors
        how, heads, needs = ctx.how, ctx.how.heads, ctx.needs_input_grad
        product = NormedProduct(norm, (query, key, value), needs[1:5])
        to_hidden, to_out = torch.empty_like(hidden), torch.zeros_like(out)
        to_bias = torch.zeros_like(bias[0])
        saved = iter(made)
        for rows, blocks in stretches(how):
            unit, scale = unit_rows(hidden[rows], how.eps)
            slope, mixed = gradient[rows], next(saved)
            if how.outer is not None:
                slope = (slope * how.outer[rows]).div_(1 - how.rates[1])
            pulled = times_transposed(slope, out.T)  # [c, hw]
            if needs[5]:
                to_out += times_transposed(slope.T, mixed.T)
            along = (pulled * mixed).view(len(pulled), heads, -1).sum(2)
            to_parts = pulled.new_empty(len(pulled), 3 * pulled.shape[1])
            for block in blocks:
                kept_here = next(saved), next(saved), next(saved)
                to_parts[block.rows], to_scores = _back(
                    block, how, kept_here, pulled[block.rows], along[block.rows]
                )
                if needs[6]:
                    to_bias[:, : block.length, : block.length] += to_scores
            torch.add(product.back(to_parts, unit, scale), gradient[rows], out=to_hidden[rows])
        return (
            to_hidden,
            *product.gradients(),
            to_out if needs[5] else None,
            to_bias.unsqueeze(0) if needs[6] else None,
            None,
        )


def _forward(
    hidden: Tensor, product: NormedProduct, out: Tensor, bias: Tensor, how: How, shifted: bool
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The result, what the backward pass needs, and all sums of powers."""
    result = torch.empty_like(hidden)
    made, sums = list[Tensor](), list[Tensor]()
    for rows, blocks in stretches(how):
        parts = product(unit_rows(hidden[rows], how.eps)[0])
        mixed = parts.new_empty(len(parts), out.shape[1])
        of_blocks = list[Tensor]()
        for block in blocks:
            three = _by_head(parts[block.rows], block, 3, how.heads)
            powers = _powers(three[0], three[1], bias, block, shifted)
            total = powers.sum(2)
            weights = powers if block.mask is None else powers * block.mask
            found = torch.bmm(weights, three[2]).div_(total.unsqueeze(2) * (1 - how.rates[0]))
            _to_line(mixed[block.rows], found.unsqueeze(0), block, how.heads)
            sums.append(total.flatten())
            of_blocks += [three, powers, total]
        found = times_transposed(mixed, out)
        if how.outer is not None:
            found.mul_(how.outer[rows]).div_(1 - how.rates[1])
        torch.add(hidden[rows], found, out=result[rows])
        if how.keeps:
            made += [mixed, *of_blocks]
    return result, made, sums


def _powers(query: Tensor, key: Tensor, bias: Tensor, block: Block, shifted: bool) -> Tensor:
    """`exp(q k' + bias)`, of the shifted form where asked for. `[n h, L, w]` twice to `[n h, L, L]`"""
    n, length = block.prompts, block.length
    scores = query.new_empty(len(query), length, length)
    scores.view(n, -1, length, length).copy_(bias[:, :length, :length])
    scores.baddbmm_(query, key.transpose(1, 2), alpha=LOG2_E)
    if shifted:
        scores.sub_(scores.amax(2, keepdim=True))
    return scores.exp2_()


def _back(
    block: Block, how: How, made: tuple[Tensor, Tensor, Tensor], pulled: Tensor, along: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of a block's q, k and v, `[n L, 3 h w]`, and of its scores, summed over prompts. `[h, L, L]`

    Args:
        made: what the forward pass left.
        pulled: gradient of what attention mixed. `[n L, h w]`
        along: its product with what was mixed, a head. `[n L, h]`
    """
    (query, key, value), powers, total = made
    n, length = block.prompts, block.length
    over = total.view(n, -1, length, 1)
    asked = torch.empty_like(query)
    torch.div(
        pulled.view(n, length, how.heads, -1).transpose(1, 2), over, out=asked.view(n, how.heads, length, -1)
    )
    mean = along.view(n, length, -1).transpose(1, 2).unsqueeze(3) / over
    to_three = torch.empty_like(made[0])
    weights, scale = powers, 1 - how.rates[0]
    to_scores = torch.bmm(asked, value.transpose(1, 2))
    if block.mask is not None:
        weights = (powers * block.mask).div_(scale)
        to_scores.mul_(block.mask).div_(scale)
    to_scores.sub_(mean.flatten(0, 1)).mul_(powers)
    torch.bmm(to_scores, key, out=to_three[0])
    torch.bmm(to_scores.transpose(1, 2), query, out=to_three[1])
    torch.bmm(weights.transpose(1, 2), asked, out=to_three[2])
    line = pulled.new_empty(len(pulled), 3 * pulled.shape[1])
    _to_line(line, to_three, block, how.heads)
    return line, to_scores.view(n, -1, length, length).sum(0)


def _by_head(line: Tensor, block: Block, kinds: int, heads: int) -> Tensor:
    """`[n L, kinds h w]` to `[kinds, n h, L, w]`"""
    apart = line.view(block.prompts, block.length, kinds, heads, -1).permute(2, 0, 3, 1, 4)
    return apart.reshape(kinds, block.prompts * heads, block.length, -1)


def _to_line(line: Tensor, by_head: Tensor, block: Block, heads: int) -> None:
    """The way back, into `line`."""
    kinds = len(by_head)
    apart = by_head.view(kinds, block.prompts, heads, block.length, -1).permute(1, 3, 0, 2, 4)
    line.view(block.prompts, block.length, kinds, heads, -1).copy_(apart)
