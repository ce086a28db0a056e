"""Faster layers against PyTorch's own."""

import pytest
import torch
from torch import Tensor, nn

from recbole_llmgraph.lm.quick import QuickLinear, quicken
from recbole_llmgraph.loss.product import Product


def both(layer: nn.Linear, rows: Tensor) -> list[tuple[Tensor, ...]]:
    """Output and gradients of PyTorch's layer and of the quick one with the same weight."""
    quick = QuickLinear(layer.in_features, layer.out_features, bias=False, dtype=layer.weight.dtype)
    quick.load_state_dict(layer.state_dict())
    found = []
    for one in (layer, quick):
        x = rows.clone().requires_grad_()
        out = one(x)
        found.append((out, *torch.autograd.grad(out.float().square().sum(), (x, one.weight))))
    return found


@pytest.mark.parametrize("shape", [(1,), (7,), (300,), (0,), (2, 5), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equals_pytorchs_layer(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 10, bias=False, dtype=dtype)
    plain, quick = both(layer, torch.randn(*shape, 24, dtype=dtype))
    for expected, found in zip(plain, quick, strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_autocast_is_obeyed() -> None:
    layer = QuickLinear(8, 4, bias=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(3, 8)).dtype == torch.bfloat16


def test_the_products_gradient_is_that_of_differences_and_reaches_what_asks() -> None:
    a, b = (torch.randn(n, 4, dtype=torch.double, requires_grad=True) for n in (3, 5))
    assert torch.autograd.gradcheck(Product.apply, (a, b))
    Product.apply(a, b.detach()).sum().backward()
    assert a.grad is not None and b.grad is None
    frozen = Product.apply(a.detach(), b)
    frozen.sum().backward()
    torch.testing.assert_close(b.grad, a.detach().sum(0).expand(5, -1))


def test_layers_with_a_bias_and_other_kinds_stay() -> None:
    model = nn.ModuleDict({"plain": nn.Linear(3, 3, bias=False), "biased": nn.Linear(3, 3), "act": nn.GELU()})
    weight = model["plain"].weight
    quicken(model)
    assert type(model["plain"]) is QuickLinear and model["plain"].weight is weight
    assert type(model["biased"]) is nn.Linear and model["act"].approximate == "none"
