"""The short way to the last state gives what the whole forward pass gives."""

import pytest
import torch
from transformers import AutoModel, LlamaConfig, MistralConfig, Qwen2Config

from recbole_llmgraph.lm.decoder import last_states
from recbole_llmgraph.lm.prefix import KeyValuePrefix
from recbole_llmgraph.lm.slots import PromptBatch

SIZES = dict(
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=48,
    vocab_size=11,
)
LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}


def left_padded(k):
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]]).bool()
    return PromptBatch(torch.randn(3, 5, 32), mask, k)


@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize(
    ("config", "attention"),
    [
        (LlamaConfig(**SIZES), "sdpa"),
        (LlamaConfig(**SIZES), "eager"),
        (LlamaConfig(**SIZES, rope_parameters=LLAMA3), "sdpa"),
        (LlamaConfig(**{**SIZES, "num_hidden_layers": 1}), "sdpa"),
        (MistralConfig(**SIZES, sliding_window=None), "sdpa"),
        (Qwen2Config(**SIZES), "sdpa"),
    ],
    ids=["llama", "eager", "llama3", "one layer", "mistral", "qwen2"],
)
def test_equals_the_whole_pass(config, k, attention):
    torch.manual_seed(0)
    model = AutoModel.from_config(config, attn_implementation=attention)
    for weight in model.layers.parameters():  # as built they barely attend, and any mistake is small
        if weight.dim() == 2:
            weight.data *= 10
    prompts = left_padded(k)
    prefix = KeyValuePrefix(model, k) if k else None

    def cache():
        return prefix.cache(model, None, None, 3) if prefix else None

    whole = model(
        inputs_embeds=prompts.inputs_embeds,
        attention_mask=prompts.attention_mask,
        position_ids=prompts.position_ids,
        past_key_values=cache(),
        use_cache=bool(k),
    ).last_hidden_state[:, -1]
    short = last_states(model, prompts, cache())
    torch.testing.assert_close(short, whole, atol=1e-5, rtol=1e-5)

    weights = list(model.layers.parameters())
    downstream = torch.randn_like(whole)
    expected = torch.autograd.grad((whole * downstream).sum(), weights)
    got = torch.autograd.grad((short * downstream).sum(), weights)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4 * float(other.abs().max()), rtol=1e-3)


@pytest.mark.parametrize("k", [0, 3])
def test_padding_is_never_looked_at(llama, k):
    torch.manual_seed(0)
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]).bool()
    inputs = torch.randn(2, 4, llama.width)
    junk = torch.where(mask.unsqueeze(-1), inputs, 1e3 * torch.randn_like(inputs))
    prefix = KeyValuePrefix(llama.model, k) if k else None

    def run(x):
        cache = prefix.cache(llama.model, None, None, 2) if prefix else None
        return last_states(llama.model, PromptBatch(x, mask, k), cache)

    assert torch.equal(run(inputs), run(junk))
