"""What T5's fused layers share: norms folded into the products behind them, and masks of dropout.

A fused layer walks over the line of tokens some rows at a time, so that what it makes on the way stays in the
processor's cache, and keeps for its backward pass no more than it needs. Values and gradients are those of
transformers' layers but for rounding; dropout draws what their modules would draw.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recbole_llmgraph.lm.quick import QuickLinear
from recbole_llmgraph.loss.product import times_transposed

#: Tokens walked over at once.
ROWS = 4096


def fuses(hidden: Tensor, *projections: Any) -> bool:
    """Whether a fused layer may stand in: plain float32 on a processor, no adapters, no autocast."""
    return (
        hidden.device.type == "cpu"
        and hidden.dtype in (torch.float32, torch.float64)
        and all(type(part) is QuickLinear and part.weight.dtype == hidden.dtype for part in projections)
        and not torch.is_autocast_enabled("cpu")
    )


def walk(count: int) -> Iterator[slice]:
    """Slices of `count` rows."""
    return (slice(start, min(start + ROWS, count)) for start in range(0, count, ROWS))


def kept(shape: tuple[int, ...], rate: float, like: Tensor) -> Tensor | None:
    """What dropout keeps, drawn as `F.dropout` draws it; None where it keeps all."""
    if rate == 0 or like.numel() == 0:
        return None
    return torch.empty(shape, dtype=torch.bool, device=like.device).bernoulli_(1 - rate)


def rate_of(dropout: nn.Module) -> float:
    """The rate at which a dropout layer drops now."""
    return float(dropout.p) if dropout.training else 0.0  # type: ignore[arg-type]


def unit_rows(rows: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Rows over their root mean square, and what each was multiplied by. `[c, D], [c, 1]`"""
    scale = torch.linalg.vecdot(rows, rows).div_(rows.shape[1]).add_(eps).rsqrt_().unsqueeze(1)
    return rows * scale, scale


def through_norm(slope: Tensor, unit: Tensor, scale: Tensor) -> Tensor:
    """Gradient of `unit_rows`' input from that of its first output. `[c, D]`"""
    along = torch.linalg.vecdot(slope, unit).div_(-unit.shape[1]).unsqueeze(1)
    return torch.addcmul(slope, unit, along).mul_(scale)


class RowNorm(torch.autograd.Function):
    """T5's norm: `weight * x / rms(x)`."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
        """`[T, D], [D]` to `[T, D]`"""
        ctx.save_for_backward(hidden, weight)
        ctx.eps = eps
        return unit_rows(hidden, eps)[0].mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """To the rows and to the weight."""
        hidden, weight = ctx.saved_tensors
        unit, scale = unit_rows(hidden, ctx.eps)
        to_weight = (gradient * unit).sum(0) if ctx.needs_input_grad[1] else None
        return through_norm(gradient * weight, unit, scale), to_weight, None


def norm(layer: Any, hidden: Tensor) -> Tensor:
    """What a `T5LayerNorm` answers. `[T, D]`"""
    if hidden.dim() != 2 or not fuses(hidden) or layer.weight.dtype != hidden.dtype:
        plain: Tensor = layer(hidden)
        return plain
    fused: Tensor = RowNorm.apply(hidden, layer.weight, layer.variance_epsilon)
    return fused


class NormedProduct:
    """`norm(x) W'` for several W at once, its norm's weight folded into them.

    Args:
        norm: the norm's weight. `[D]`
        weights: of the projections. `[F_i, D]` each
        learns: whether the norm's weight, and each W, want a gradient.
    """

    def __init__(self, norm: Tensor, weights: tuple[Tensor, ...], learns: tuple[bool, ...]) -> None:
        self.norm, self.sizes, self.learns = norm, [len(weight) for weight in weights], learns
        self.weights = torch.cat(weights)
        self.folded = self.weights * norm
        self.slope = torch.zeros_like(self.folded.T)

    def __call__(self, unit: Tensor) -> Tensor:
        """`[c, D]` to `[c, F]`"""
        return times_transposed(unit, self.folded)

    def back(self, slope: Tensor, unit: Tensor, scale: Tensor) -> Tensor:
        """Gradient of the norm's input; that of the weights is gathered. `[c, F]` to `[c, D]`"""
        if any(self.learns):
            self.slope += times_transposed(unit.T, slope.T)
        return through_norm(times_transposed(slope, self.folded.T), unit, scale)

    def gradients(self) -> tuple[Tensor | None, ...]:
        """To the norm's weight and to each W."""
        slope = self.slope.T
        found = (slope * self.weights).sum(0), *(slope * self.norm).split(self.sizes)
        return tuple(part if learns else None for part, learns in zip(found, self.learns, strict=True))
