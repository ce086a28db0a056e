"""T5 over packed prompts against transformers' own forward pass over padded ones."""

from typing import Any

import pytest
import torch
from torch import Tensor

from recbole_llmgraph.lm.backbone import Backbone, open_backbone, text_head
from recbole_llmgraph.lm.packed import Packed, pack
from recbole_llmgraph.lm.quick import QuickLinear, quicken
from recbole_llmgraph.lm.t5 import decode_first, encode

#: Prompts in the order they come: one of a single token, one longer than the exact buckets of positions.
LENGTHS = [5, 1, 40, 5, 3, 17, 5]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module", params=["builtin:t5-mini", "builtin:t5-small", "flan"])
def t5(request: pytest.FixtureRequest) -> Backbone:
    """Built-ins, and Flan-T5's own shape and tokenizer with random weights and its own text head."""
    if request.param != "flan":
        return lively(open_backbone(request.param, family="t5", texts=["name the next item"]))
    folder = request.getfixturevalue("checkpoints") / "flan-t5-small-tokenizer"
    return lively(open_backbone(f"path:{folder}", family="t5", random_weights=True))


@pytest.fixture
def mini() -> Backbone:
    return lively(open_backbone("builtin:t5-mini", family="t5", texts=["name the next item"]))


def lively(opened: Backbone) -> Backbone:
    """Norms and biases of positions that matter: fresh ones are all one, or small."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in opened.model.named_parameters():
            if "layer_norm" in name:
                weight.uniform_(0.5, 1.5)
            if "relative_attention_bias" in name:
                weight.normal_()
    opened.model.eval()
    return opened


def prompts_of(opened: Backbone) -> tuple[Tensor, Packed, Tensor, Tensor]:
    """A table of rows, the same prompts packed and padded, and the padded mask."""
    torch.manual_seed(1)
    count = sum(LENGTHS)
    table = torch.cat([torch.zeros(1, opened.width), torch.randn(count, opened.width)])
    index = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    start = 1
    for line, length in enumerate(LENGTHS):
        index[line, :length] = torch.arange(start, start + length)
        start += length
    packed = pack([index[:3, :40], index[3:5, :5], index[5:]])
    return table.requires_grad_(), packed, index, index > 0


def own_way(model: Any, embeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """transformers: states of the encoder, the decoder's after the start token, and its logits."""
    start = torch.full((len(mask), 1), model.config.decoder_start_token_id)
    found = model(
        inputs_embeds=embeds, attention_mask=mask.long(), decoder_input_ids=start, output_hidden_states=True
    )
    return found.encoder_last_hidden_state, found.decoder_hidden_states[-1][:, 0], found.logits[:, 0]


def packed_way(model: Any, table: Tensor, packed: Packed) -> tuple[Tensor, Tensor]:
    states = encode(model.encoder, table[packed.rows], packed)
    start = model.shared.weight[model.config.decoder_start_token_id]
    return states, decode_first(model.decoder, start, states, packed)


def padded_back(states: Tensor, packed: Packed, index: Tensor) -> Tensor:
    """States of the line where the padded batch has them, zero at padding."""
    places = torch.zeros(int(packed.rows.max()) + 1, dtype=torch.long)
    places[packed.rows] = torch.arange(len(states))
    return states[places[index]] * (index > 0).unsqueeze(-1)


def test_states_and_logits_equal_transformers(t5: Backbone) -> None:
    """With the text head's rows and scale: tied ones over sqrt(D), Flan-T5's own as they are."""
    table, packed, index, mask = prompts_of(t5)
    rows, tied = text_head(t5)
    with torch.no_grad():
        expected, decoded, logits = own_way(t5.model, table[index], mask)
        states, first = packed_way(t5.model, table, packed)
    torch.testing.assert_close(padded_back(states, packed, index), expected * mask.unsqueeze(-1), **CLOSE)
    torch.testing.assert_close(first, decoded, **CLOSE)
    means = (expected * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(packed.means(states), means, **CLOSE)
    assert tied == t5.name.startswith("builtin:")
    scale = t5.width**-0.5 if tied else 1.0
    torch.testing.assert_close(first @ rows.T * scale, logits, rtol=1e-4, atol=1e-5)


def test_gradients_equal_transformers(mini: Backbone) -> None:
    compare_gradients(mini)


@pytest.mark.slow
def test_gradients_equal_transformers_in_every_shape(t5: Backbone) -> None:
    compare_gradients(t5)


def compare_gradients(t5: Backbone) -> None:
    table, packed, index, mask = prompts_of(t5)
    expected = gradients(t5, table, index, *own_way(t5.model, table[index], mask)[:2])
    states, first = packed_way(t5.model, table, packed)
    compare(gradients(t5, table, index, padded_back(states, packed, index), first), expected)


def gradients(t5: Backbone, table: Tensor, index: Tensor, states: Tensor, first: Tensor) -> list[Tensor]:
    """Of the prompts' rows and all weights, for a fixed pull at every state."""
    torch.manual_seed(2)
    pull, mask = torch.randn(*index.shape, t5.width), (index > 0).unsqueeze(-1)
    total = (states * pull * mask).sum() + (first * torch.randn(len(index), t5.width)).sum()
    weights = [table, *(w for name, w in t5.model.named_parameters() if name != "lm_head.weight")]
    found = torch.autograd.grad(total, weights, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]


def compare(found: list[Tensor], expected: list[Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert float((ours - theirs).norm()) <= 2e-5 * max(1.0, float(theirs.norm()))


def test_a_prompt_reads_no_other(mini: Backbone) -> None:
    """Changing one prompt moves its own states alone."""
    table, packed, index, _ = prompts_of(mini)
    with torch.no_grad():
        before, first = packed_way(mini.model, table, packed)
        other = table.clone()
        other[index[3, :5]] += 1.0
        after, second = packed_way(mini.model, other, packed)
    moved = (padded_back(after - before, packed, index).abs().sum(2) > 0).any(1)
    assert moved.tolist() == [line == 3 for line in range(len(LENGTHS))]
    assert ((first != second).any(1)).tolist() == moved.tolist()


def test_quick_layers_change_nothing_but_rounding(mini: Backbone) -> None:
    """States as before, gradients as transformers' own layers give them."""
    table, packed, index, mask = prompts_of(mini)
    expected = gradients(mini, table, index, *own_way(mini.model, table[index], mask)[:2])
    with torch.no_grad():
        before = packed_way(mini.model, table, packed)
    names = set(mini.model.state_dict())
    quicken(mini.model)
    assert set(mini.model.state_dict()) == names
    with torch.no_grad():
        after = packed_way(mini.model, table, packed)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    states, first = packed_way(mini.model, table, packed)
    compare(gradients(mini, table, index, padded_back(states, packed, index), first), expected)
    linear = [module for module in mini.model.modules() if isinstance(module, torch.nn.Linear)]
    assert linear and all(isinstance(layer, QuickLinear) for layer in linear)
    acts = [module.act for module in mini.model.modules() if hasattr(module, "act")]
    assert acts and all(isinstance(act, torch.nn.GELU) and act.approximate == "tanh" for act in acts)


def test_other_activations_stay_as_they_are() -> None:
    """T5 v1.0 has a plain ReLU net without gates."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        d_model=16, d_kv=4, d_ff=20, num_layers=2, num_heads=3, vocab_size=30, feed_forward_proj="relu",
        decoder_start_token_id=0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    opened = lively(Backbone("relu", model, None, "t5", 16, 0, False, ""))  # type: ignore[arg-type]
    quicken(model)
    assert not any(isinstance(module, torch.nn.GELU) for module in model.modules())
    compare_gradients(opened)


def test_dropout_falls_where_transformers_lets_it_fall(mini: Backbone) -> None:
    """Mean and spread over many passes of a training model, ours against theirs."""
    model: Any = mini.model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
        if hasattr(module, "EncDecAttention"):
            module.EncDecAttention.dropout = 0.3
        if hasattr(module, "SelfAttention"):
            module.SelfAttention.dropout = 0.3
    torch.manual_seed(5)
    copies, length = 600, 4
    table = torch.cat([torch.zeros(1, mini.width), torch.randn(length, mini.width)])
    index = torch.arange(1, length + 1).expand(copies, -1)
    packed = pack([index])
    with torch.no_grad():
        ours = packed_way(model, table, packed)
        theirs = own_way(model, table[index], index > 0)
    pairs = ((ours[0].view(copies, -1), theirs[0].flatten(1)), (ours[1], theirs[1]))
    for mine, other in pairs:
        error = ((mine.var(0) + other.var(0)) / copies).sqrt()
        assert float(((mine.mean(0) - other.mean(0)) / error).abs().max()) < 5
        assert float((mine.var(0).mean() / other.var(0).mean()).log().abs()) < 0.05


def test_bfloat16_stays_near(mini: Backbone) -> None:
    table, packed, _, _ = prompts_of(mini)
    with torch.no_grad():
        exact = packed_way(mini.model, table, packed)
        with torch.autocast("cpu", torch.bfloat16):
            rough = packed_way(mini.model, table, packed)
    for one, other in zip(exact, rough, strict=True):
        assert torch.isfinite(other).all()
        assert float((one - other.float()).norm() / one.norm()) < 0.03
