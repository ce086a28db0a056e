"""The dense product behind the contrastive kernels."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def _onednn_works() -> bool:
    """Whether this PyTorch has oneDNN's linear product as an operator of its own."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


_ONEDNN = _onednn_works()


def times_transposed(a: Tensor, b: Tensor) -> Tensor:
    """`a b'` without autograd: `[m, d]` and `[n, d]` (any strides) to `[m, n]`.

    In float32 on a processor the product is oneDNN's: PyTorch's own choice, MKL, leaves half the
    vector width of AMD processors unused (measured 83 against 221 GFLOP/s on one Zen 5 core); on others they
    are level. Elsewhere it is PyTorch's `@`. Both are plain float32 products.
    """
    if _ONEDNN and a.device.type == "cpu" and a.dtype == torch.float32 and a.shape[1] > 0:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
        return product
    return a @ b.T


class Product(torch.autograd.Function):
    """`times_transposed` with gradients to both factors."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        """`a b'`. `[m, d], [n, d]` to `[m, n]`"""
        ctx.save_for_backward(a, b)
        return times_transposed(a, b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """`g b` and `g' a`."""
        a, b = ctx.saved_tensors
        to_a, to_b = ctx.needs_input_grad
        return (
            times_transposed(gradient, b.T) if to_a else None,
            times_transposed(gradient.T, a.T) if to_b else None,
        )
