"""T5 over packed prompts: the layers of a Hugging Face T5, attention inside each prompt alone.

Without dropout the states equal those of transformers' own forward pass over padded prompts; no projection
and no attention is spent on padding.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_llmgraph.lm.attention import attend
from recbole_llmgraph.lm.feedforward import feed_forward
from recbole_llmgraph.lm.fused import norm
from recbole_llmgraph.lm.packed import Packed


def encode(encoder: Any, tokens: Tensor, packed: Packed) -> Tensor:
    """States of the encoder.

    Args:
        encoder: `T5ForConditionalGeneration.encoder`.
        tokens: input rows of the line. `[T, D]`
        packed: how prompts lie in the line.

    Returns:
        `[T, D]`
    """
    longest = max(length for _, length in packed.groups)
    bias = encoder.block[0].layer[0].SelfAttention.compute_bias(longest, longest)  # [1, h, L, L]
    hidden: Tensor = encoder.dropout(tokens)
    for block in encoder.block:
        attention, last = block.layer
        found = attend(attention, hidden, bias, packed)
        hidden = feed_forward(last, _by_parts(attention, hidden, bias, packed) if found is None else found)
    states: Tensor = encoder.dropout(norm(encoder.final_layer_norm, hidden))
    return states


def _by_parts(layer: Any, hidden: Tensor, bias: Tensor, packed: Packed) -> Tensor:
    """A self-attention layer through its own modules, adapters included. `[T, D]`"""
    attention = layer.SelfAttention
    normed = layer.layer_norm(hidden)
    query, key, value = (_heads(attention, part(normed)) for part in _projections(attention))
    found = [
        _attend(attention, q, k, v, bias[:, :, : q.shape[1], : q.shape[1]])
        for q, k, v in zip(*map(packed.by_length, (query, key, value)), strict=True)
    ]
    joined = torch.cat([part.flatten(0, 1) for part in found]).flatten(1)
    mixed: Tensor = hidden + layer.dropout(attention.o(joined))
    return mixed


def decode_first(decoder: Any, start: Tensor, states: Tensor, packed: Packed) -> Tensor:
    """The decoder's state at its first step, whose only token is the start token.

    Args:
        decoder: `T5ForConditionalGeneration.decoder`.
        start: input row of the start token. `[D]`
        states: of the encoder. `[T, D]`
        packed: how prompts lie in the line of states.

    Returns:
        In the order the prompts came. `[S, D]`
    """
    hidden = decoder.dropout(start.expand(len(packed.order), -1))
    for block in decoder.block:
        own, cross, last_layer = block.layer
        attention = own.SelfAttention
        # One token attends to itself: the weight is 1, what is left is its value.
        value = _heads(attention, attention.v(norm(own.layer_norm, hidden)))
        weight = F.dropout(value.new_ones(*value.shape[:2], 1), attention.dropout, attention.training)
        hidden = hidden + own.dropout(attention.o((weight * value).flatten(1)))
        hidden = hidden + cross.dropout(
            _look(cross.EncDecAttention, norm(cross.layer_norm, hidden), states, packed)
        )
        hidden = feed_forward(last_layer, hidden)
    last: Tensor = decoder.dropout(norm(decoder.final_layer_norm, hidden))
    return packed.unpacked(last)


def _look(attention: Any, normed: Tensor, states: Tensor, packed: Packed) -> Tensor:
    """Attention of one token a prompt, in packed order, to that prompt's states. `[S, D]`"""
    query = _heads(attention, attention.q(normed)).unsqueeze(1).split([count for count, _ in packed.groups])
    key, value = (packed.by_length(_heads(attention, part(states))) for part in (attention.k, attention.v))
    found = [_attend(attention, q, k, v) for q, k, v in zip(query, key, value, strict=True)]
    looked: Tensor = attention.o(torch.cat(found).flatten(1))
    return looked


def _projections(attention: Any) -> tuple[Any, Any, Any]:
    return attention.q, attention.k, attention.v


def _heads(attention: Any, projected: Tensor) -> Tensor:
    """`[T, h * w]` to `[T, h, w]`"""
    heads: Tensor = projected.unflatten(1, (attention.n_heads, attention.key_value_proj_dim))
    return heads


def _attend(attention: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """T5's attention: no scale, a bias of positions. `[n, Q, h, w], [n, L, h, w]` to `[n, Q, h, w]`"""
    dropout = attention.dropout if attention.training else 0.0
    mixed = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), bias, dropout, scale=1.0
    )
    return mixed.transpose(1, 2)
