"""The dense product equals PyTorch's, whatever the strides."""

import pytest
import torch

from recbole_llmgraph.loss.product import times_transposed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("m", "n", "d"), [(1, 1, 1), (17, 5, 3), (130, 257, 64), (3, 4, 0), (0, 4, 2), (4, 0, 2)]
)
@pytest.mark.parametrize("strides", ["plain", "transposed", "sliced"])
def test_equals_double_precision(dtype, m, n, d, strides):
    torch.manual_seed(0)
    shapes = [(m, d), (n, d)]
    if strides == "transposed":
        a, b = (torch.randn(*reversed(shape), dtype=dtype).T for shape in shapes)
    elif strides == "sliced":
        a, b = (torch.randn(shape[0] * 2 + 1, shape[1] + 2, dtype=dtype)[1::2, 1:-1] for shape in shapes)
    else:
        a, b = (torch.randn(*shape, dtype=dtype) for shape in shapes)
    found = times_transposed(a, b)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), a.double() @ b.double().T, rtol=1e-5, atol=1e-5)


def test_is_full_single_precision():
    """No bfloat16 hides behind the fast road: that would be off by a hundredth."""
    torch.manual_seed(0)
    a, b = torch.randn(300, 64), torch.randn(400, 64)
    assert float((times_transposed(a, b) - a.double() @ b.double().T).abs().max()) < 1e-4
