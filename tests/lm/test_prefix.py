"""The prefix equals attention over hand-concatenated keys and values."""

import numpy as np
import pytest
import torch

from recbole_llmgraph.lm.decoder import last_states
from recbole_llmgraph.lm.prefix import KeyValuePrefix, key_width, prefix_cache
from recbole_llmgraph.lm.slots import SlotPrompt

LENGTHS = torch.tensor([3, 0, 2])


def prompts(backbone, k):
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(9, backbone.width, generator=generator)
    prompt = SlotPrompt("a {items} b", backbone.tokenizer)
    slots = torch.arange(9).view(3, 3)
    return prompt(backbone.model.embed_tokens, rows, {"items": (slots, LENGTHS)}, prefix_length=k)


def as_seen(model, prefix, key, value, row):
    """What attention of each layer should see of one sequence's prefix, by the module's equation."""
    p = dict(prefix.named_parameters())
    eps = 1e-6

    def norm(x, weight):
        return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight

    seen = {"key": [], "value": []}
    for number, layer in enumerate(model.layers):
        for name, condition, projection in (
            ("key", key, layer.self_attn.k_proj),
            ("value", value, layer.self_attn.v_proj),
        ):
            rows = p[f"learned_{name}"][number]
            if prefix.projected:
                inner = norm(condition[row], p[f"norms.condition_{name}.weight"])
                rows = norm(rows + inner, p[f"norms.row_{name}.weight"]) @ projection.weight.T
            else:
                rows = rows + condition[row]
            seen[name].append(rows.detach().double().numpy())
    return seen["key"], seen["value"]


@pytest.mark.parametrize("variant", ["release", "paper"])
def test_equals_hand_concatenated_attention(any_llama, slow_decoder, variant):
    model = any_llama.model.double()
    k, torch_rng = 4, torch.Generator().manual_seed(2)
    prefix = KeyValuePrefix(model, k, variant).double()
    for weight in prefix.norms.parameters():  # norms at one would hide a norm left out
        weight.data.uniform_(0.5, 1.5, generator=torch_rng)
    key, value = torch.randn(2, 3, prefix.width, dtype=torch.float64, generator=torch_rng)
    batch = prompts(any_llama, k)
    with torch.no_grad():
        fast = last_states(model, batch, prefix.cache(model, key, value, 3))
        whole = model(
            inputs_embeds=batch.inputs_embeds,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            past_key_values=prefix.cache(model, key, value, 3),
        ).last_hidden_state
    for row in range(3):
        tokens = batch.inputs_embeds[row][batch.mask[row]].detach().numpy()
        slow = slow_decoder(model, tokens, *as_seen(model, prefix, key, value, row))
        # in units of a state's size, which is 7 in stories3M; its norms and angles are float32
        size = np.sqrt(np.mean(slow**2))
        np.testing.assert_allclose(whole[row][batch.mask[row]].numpy() / size, slow / size, atol=1e-5)
        np.testing.assert_allclose(fast[row].numpy() / size, slow[-1] / size, atol=1e-5)


def test_prefix_is_seen(llama):
    """The comparison above would also pass if both sides left the prefix out."""
    prefix = KeyValuePrefix(llama.model, 4)
    batch = prompts(llama, 4)
    one, other = (
        last_states(llama.model, batch, prefix.cache(llama.model, key, key, 3))
        for key in (torch.ones(3, llama.width), torch.randn(3, llama.width))
    )
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("variant", ["release", "paper"])
def test_gradient_reaches_every_part(llama, variant):
    torch.manual_seed(0)
    prefix = KeyValuePrefix(llama.model, 4, variant)
    key, value = torch.randn(2, 3, prefix.width).requires_grad_().unbind()
    key.retain_grad(), value.retain_grad()
    state = last_states(llama.model, prompts(llama, 4), prefix.cache(llama.model, key, value, 3))
    (state * torch.randn_like(state)).sum().backward()
    assert key.grad.abs().sum(1).gt(1e-5).all()
    assert value.grad.abs().sum(1).gt(1e-5).all()
    for name, weight in prefix.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 1e-5, name
    assert prefix.learned_key.grad.abs().sum((1, 2)).gt(1e-5).all(), "a layer without prefix"


def test_learned_prefix_alone_is_shared_by_the_batch(llama):
    prefix = KeyValuePrefix(llama.model, 4)
    cache = prefix.cache(llama.model, None, None, 3)
    assert cache.get_seq_length() == 4
    assert cache.layers[0].keys.shape == (3, 2, 4, 32)
    torch.testing.assert_close(cache.layers[1].values[0], cache.layers[1].values[2])
    assert last_states(llama.model, prompts(llama, 4), cache).isfinite().all()


def test_every_pass_takes_a_fresh_cache(llama):
    prefix = KeyValuePrefix(llama.model, 4).eval()
    batch = prompts(llama, 4)
    first = prefix.cache(llama.model, None, None, 3)
    one = last_states(llama.model, batch, first)
    assert first.get_seq_length() == 4 + batch.mask.shape[1], "a used cache holds the tokens too"
    torch.testing.assert_close(one, last_states(llama.model, batch, prefix.cache(llama.model, None, None, 3)))


def test_works_in_bfloat16(llama):
    prefix = KeyValuePrefix(llama.model, 4)
    llama.model.to(torch.bfloat16)
    state = last_states(llama.model, prompts(llama, 4), prefix.cache(llama.model, None, None, 3))
    assert state.dtype == torch.bfloat16
    assert state.isfinite().all()


def test_keys_are_not_projected_when_told(llama):
    width = key_width(llama.model)
    rows = torch.randn(2, 3, 4, width)
    cache = prefix_cache(llama.model, rows, rows, projected=False)
    torch.testing.assert_close(cache.layers[1].keys.transpose(1, 2).flatten(2), rows[1])
