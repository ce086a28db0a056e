"""T5's fused layers: gradients against differences, values and draws against the layers' own modules."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.lm import attention, fused, t5
from recbole_llmgraph.lm.attention import How, SelfAttention, attend, stretches
from recbole_llmgraph.lm.feedforward import GatedFeedForward, feed_forward, gelu, gelu_and_slope
from recbole_llmgraph.lm.fused import RowNorm, kept
from recbole_llmgraph.lm.lora import add_lora
from recbole_llmgraph.lm.packed import Packed, pack
from recbole_llmgraph.lm.quick import quicken

GROUPS = [(3, 1), (2, 2), (3, 3), (1, 5)]
TOKENS = sum(count * length for count, length in GROUPS)


@pytest.fixture(autouse=True, params=[4, 4096])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Tokens walked over at once: fewer than a prompt has, and more than there are."""
    for room in (fused, attention):
        monkeypatch.setattr(room, "ROWS", request.param)
    return request.param


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.double).requires_grad_()


def encoder(rate: float = 0.0, d_model: int = 12, **changes: Any) -> Any:
    """A quick T5 of two layers whose heads together are wider than its states."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    settings = {"d_kv": 5, "d_ff": 20, "num_layers": 2, "num_heads": 3, "vocab_size": 30} | changes
    settings.setdefault("feed_forward_proj", "gated-gelu")
    model = T5ForConditionalGeneration(
        T5Config(d_model=d_model, dropout_rate=rate, decoder_start_token_id=0, **settings)
    )
    for name, weight in model.named_parameters():
        if "layer_norm" in name:
            nn.init.uniform_(weight, 0.5, 1.5)
        elif "relative_attention_bias" in name or name.endswith(("q.weight", "k.weight")):
            nn.init.normal_(weight, std=0.5)
    quicken(model)
    return model


def line() -> Packed:
    return pack([torch.ones(count, length, dtype=torch.long) for count, length in GROUPS])


def by_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The road without fused layers."""
    monkeypatch.setattr(t5, "attend", lambda *_: None)
    monkeypatch.setattr(t5, "feed_forward", lambda layer, hidden: layer(hidden))
    monkeypatch.setattr(t5, "norm", lambda layer, hidden: layer(hidden))


def results(model: Any, tokens: Tensor) -> list[Tensor]:
    """States, and the gradients of tokens and weights under a fixed pull."""
    torch.manual_seed(3)
    states = t5.encode(model.encoder, tokens, line())
    torch.manual_seed(4)
    wanted = [tokens, *(w for w in model.encoder.parameters() if w.requires_grad)]
    found = torch.autograd.grad((states * torch.randn_like(states)).sum(), wanted, allow_unused=True)
    assert sum(part is None for part in found) <= 1  # the rows of words
    return [states, *(part for part in found if part is not None)]


def compare(model: Any, monkeypatch: pytest.MonkeyPatch, apart: float = 2e-5) -> None:
    tokens = torch.randn(TOKENS, model.config.d_model).requires_grad_()
    found = results(model, tokens)
    by_modules(monkeypatch)
    for one, other in zip(found, results(model, tokens), strict=True):
        assert float((one - other).norm()) <= apart * max(1.0, float(other.norm()))


# ---- gradients against differences


def masks_of(rate: float) -> tuple[Tensor | None, ...]:
    like = torch.ones(1)
    return kept((TOKENS, 5), rate, like), kept((TOKENS, 4), rate, like)


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_the_feed_forward_layers_gradients(rate: float) -> None:
    torch.manual_seed(0)
    given = drawn(TOKENS, 4), drawn(4), drawn(5, 4), drawn(5, 4), drawn(4, 5)
    masks = masks_of(rate)
    assert torch.autograd.gradcheck(
        lambda *tensors: GatedFeedForward.apply(*tensors, 1e-6, (rate, rate), masks, True), given
    )


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_the_attention_layers_gradients(rate: float) -> None:
    torch.manual_seed(0)
    masks = [kept((count, 2, length, length), rate, torch.ones(1)) for count, length in GROUPS]
    how = How(GROUPS, 2, 1e-6, (rate, rate), masks, masks_of(rate)[1], True)
    given = drawn(TOKENS, 4), drawn(4), drawn(6, 4), drawn(6, 4), drawn(6, 4), drawn(4, 6), drawn(1, 2, 5, 5)
    assert torch.autograd.gradcheck(lambda *tensors: SelfAttention.apply(*tensors, how), given)


def test_the_norms_gradients() -> None:
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(lambda x, w: RowNorm.apply(x, w, 1e-6), (drawn(7, 5), drawn(5)))


def test_gelu_equals_pytorchs_far_out_too() -> None:
    at = torch.cat([torch.linspace(-12, 12, 500), torch.tensor([0.0, -1e4, 1e4])]).requires_grad_()
    expected = F.gelu(at, approximate="tanh")
    (slope,) = torch.autograd.grad(expected.sum(), at)
    torch.testing.assert_close(gelu(at.detach()), expected.detach(), rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(gelu_and_slope(at.detach()), (expected.detach(), slope), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6)


# ---- against the modules


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_equals_the_modules_with_the_same_draws(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout takes from the generator what it took before, in the same order."""
    compare(encoder(rate).train(), monkeypatch)


def test_scores_too_large_for_powers_are_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of several hundred to either side."""
    model = encoder()
    with torch.no_grad():
        for block in model.encoder.block:
            for part in (block.layer[0].SelfAttention.q, block.layer[0].SelfAttention.k):
                part.weight *= 12
        model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight -= 300
    compare(model, monkeypatch, 2e-3)  # rounding of such scores; without the shift nothing is finite


def test_frozen_weights_get_no_gradient_and_their_input_does(monkeypatch: pytest.MonkeyPatch) -> None:
    model = encoder()
    model.requires_grad_(False)
    compare(model, monkeypatch)
    model.encoder.block[0].layer[0].layer_norm.weight.requires_grad_()
    model.encoder.block[1].layer[1].DenseReluDense.wi_1.weight.requires_grad_()
    monkeypatch.undo()
    compare(model, monkeypatch)


def test_without_gradients_the_states_are_the_same() -> None:
    model = encoder(0.3).train()
    tokens = torch.randn(TOKENS, 12)
    found = []
    for grad in (True, False):
        torch.manual_seed(1)
        with torch.set_grad_enabled(grad):
            found.append(t5.encode(model.encoder, tokens, line()).detach())
    assert torch.equal(*found)


def test_the_line_is_cut_between_prompts(rows: int) -> None:
    how = How(GROUPS, 1, 0.0, (0.0, 0.0), [None] * len(GROUPS), None, False)
    parts = stretches(how)
    assert [part.start for part, _ in parts] == [0, *(part.stop for part, _ in parts)][:-1]
    assert parts[-1][0].stop == TOKENS
    for part, blocks in parts:
        size = part.stop - part.start
        assert size <= rows or (len(blocks) == 1 and blocks[0].prompts == 1)
        assert sum(block.prompts * block.length for block in blocks) == size
    held = [(block.prompts, block.length) for _, blocks in parts for block in blocks]
    for count, length in GROUPS:
        assert sum(some for some, long in held if long == length) == count


# ---- where the fused layers stand back


def test_adapters_autocast_other_activations_and_other_types_take_the_modules() -> None:
    tokens, bias = torch.randn(TOKENS, 12), torch.zeros(1, 3, 5, 5)
    plain = encoder()
    layer, last = plain.encoder.block[0].layer
    assert attend(layer, tokens, bias, line()) is not None
    assert attend(layer, tokens.bfloat16(), bias, line()) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert attend(layer, tokens, bias, line()) is None
        assert torch.equal(feed_forward(last, tokens), last(tokens))
    relu = encoder(feed_forward_proj="relu").encoder.block[0].layer[1]
    assert torch.equal(feed_forward(relu, tokens), relu(tokens))
    add_lora(plain, r=2, targets=("q", "v"))
    assert attend(layer, tokens, bias, line()) is None
