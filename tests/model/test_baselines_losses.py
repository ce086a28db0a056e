"""Tiled losses against the plain formulas in double precision; the encoder read at one position."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_llmgraph.host.originals import TransformerEncoder
from recbole_llmgraph.loss import cross_entropy
from recbole_llmgraph.loss.cross_entropy import item_cross_entropy, label_cross_entropy
from recbole_llmgraph.model.baseline.encoder import encode_at, fuse_gelu


def _leaves(*shapes: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("rows_at_once", [1, 3, 1000])
@pytest.mark.parametrize("with_bias", [False, True])
def test_item_cross_entropy_is_torchs(
    monkeypatch: pytest.MonkeyPatch, rows_at_once: int, with_bias: bool
) -> None:
    monkeypatch.setattr(cross_entropy, "SCORES_AT_ONCE", rows_at_once * 30)
    states, items, bias = _leaves((17, 8), (30, 8), (30,), dtype=torch.float64)
    targets = torch.randint(0, 30, (17,))
    leaves = [states, items, bias] if with_bias else [states, items]
    expected = F.cross_entropy(states @ items.T + (bias if with_bias else 0), targets)
    found = item_cross_entropy(states, items, targets, bias if with_bias else None)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(3 * found, leaves), torch.autograd.grad(3 * expected, leaves), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_item_cross_entropy_survives_large_scores() -> None:
    states, items = _leaves((5, 4), (9, 4), dtype=torch.float32)
    targets = torch.arange(5)
    found = item_cross_entropy(states * 1000, items, targets)
    assert found.isfinite()
    assert found.item() == pytest.approx(F.cross_entropy(states * 1000 @ items.T, targets).item(), rel=1e-5)


def test_no_rows_no_loss() -> None:
    states, items = _leaves((0, 4), (9, 4), dtype=torch.float32)
    loss = item_cross_entropy(states, items, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0.0
    assert items.grad is not None
    assert not items.grad.any()


@pytest.mark.parametrize("rows_at_once", [1, 4, 1000])
def test_label_cross_entropy_is_a_loop_over_labels(
    monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(cross_entropy, "SCORES_AT_ONCE", rows_at_once * 6)
    states, labels = _leaves((5, 3), (6, 3), dtype=torch.float64)
    targets = torch.tensor([[0, 5, -1], [-1, -1, -1], [2, -1, -1], [1, 3, 4], [-1, 0, -1]])
    expected = states.new_zeros(())
    for state, holding in zip(states, targets.tolist(), strict=True):
        for number, label in enumerate(labels):
            chance = torch.sigmoid(state @ label)
            expected = expected - torch.log(chance if number in holding else 1 - chance)
    found = label_cross_entropy(states, labels, targets)
    assert found.item() == pytest.approx(expected.item(), abs=1e-10)
    for ours, theirs in zip(
        torch.autograd.grad(found, [states, labels]),
        torch.autograd.grad(expected, [states, labels]),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, atol=1e-10)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("causal", [True, False])
def test_encoder_read_at_one_position(n_layers: int, causal: bool) -> None:
    torch.manual_seed(0)
    encoder = TransformerEncoder(n_layers=n_layers, n_heads=2, hidden_size=16, inner_size=32).double().eval()
    states = torch.randn(6, 5, 16, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([1, 2, 3, 4, 5, 5])
    real = (torch.arange(5) < lengths[:, None])[:, None, None, :]
    mask = torch.where(real.expand(-1, 1, 5, 5).tril() if causal else real, 0.0, -10000.0).double()
    expected = encoder(states, mask)[-1][torch.arange(6), lengths - 1]
    slope = torch.autograd.grad(expected.square().sum(), states)[0]
    fuse_gelu(encoder)
    found = encode_at(encoder, states, mask, lengths - 1)
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.allclose(torch.autograd.grad(found.square().sum(), states)[0], slope, atol=1e-12)
