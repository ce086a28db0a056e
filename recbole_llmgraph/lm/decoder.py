"""The last state of every prompt, at the price of one query in the last layer."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recbole_llmgraph.lm.slots import PromptBatch

if TYPE_CHECKING:
    from transformers import DynamicCache


def last_states(model: Any, prompts: PromptBatch, cache: "DynamicCache | None" = None) -> Tensor:
    """State of each prompt's last token after the final norm, [B, D].

    Equal to the last column of the decoder's own forward pass. A classifier reads one
    state a prompt, so the last layer is asked for that one only: its other tokens give
    keys and values, as in step-by-step decoding.

    Args:
        model: Llama-family decoder.
        prompts: padded on the left.
        cache: a fresh prefix of `prompts.prefix_length` rows; `None` when that is 0.
    """
    from transformers import DynamicCache

    cache = DynamicCache() if cache is None else cache
    states = prompts.inputs_embeds
    mask = _additive(prompts.causal_mask, states.dtype)
    angles = model.rotary_emb(states, position_ids=prompts.position_ids)
    for layer in model.layers[:-1]:
        states = layer(states, attention_mask=mask, position_embeddings=angles, past_key_values=cache)
    final = model.layers[-1]
    _remember(final, states[:, :-1], (angles[0][:, :-1], angles[1][:, :-1]), cache)
    state = final(
        states[:, -1:],
        attention_mask=mask[:, :, -1:],
        position_embeddings=(angles[0][:, -1:], angles[1][:, -1:]),
        past_key_values=cache,
    )
    last: Tensor = model.norm(state)[:, 0]
    return last


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where looking is allowed, the lowest number elsewhere: what every attention of transformers takes."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(
        ~allowed, torch.finfo(dtype).min
    )


def _remember(layer: Any, states: Tensor, angles: tuple[Tensor, Tensor], cache: "DynamicCache") -> None:
    """Append the layer's keys and values of `states` [B, T, D] to the cache."""
    attention = layer.self_attn
    normed = layer.input_layernorm(states)
    key = attention.k_proj(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
    value = attention.v_proj(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
    cache.update(_rotate(key, *angles), value, attention.layer_idx)


def _rotate(key: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021), halves paired: keys [B, h, T, d], angles [B, T, d]."""
    front, back = key.chunk(2, dim=-1)
    return key * cosine.unsqueeze(1) + torch.cat((-back, front), dim=-1) * sine.unsqueeze(1)
