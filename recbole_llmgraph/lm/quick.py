"""Faster layers in place of a language model's own, with equal results but for rounding."""

import torch
from torch import Tensor, nn

from recbole_llmgraph.loss.product import Product


class QuickLinear(nn.Linear):
    """A layer that takes `loss/product.py`'s road in float32 on a processor."""

    def forward(self, rows: Tensor) -> Tensor:
        """`[T, in]` to `[T, out]`; more axes, other types and autocast take PyTorch's road."""
        plain = rows.dim() != 2 or rows.dtype != torch.float32 or self.weight.dtype != torch.float32
        if plain or rows.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(rows)
        product: Tensor = Product.apply(rows, self.weight)
        return product if self.bias is None else product + self.bias


def quicken(model: nn.Module) -> None:
    """Swap layers in place; weights and their names stay.

    Layers without bias become `QuickLinear`s; the tanh form of GELU runs in one kernel instead of seven.
    """
    from transformers.activations import NewGELUActivation

    for module in model.modules():
        if type(module) is nn.Linear and getattr(module, "bias", None) is None:
            module.__class__ = QuickLinear
        if isinstance(getattr(module, "act", None), NewGELUActivation):
            module.act = nn.GELU(approximate="tanh")
