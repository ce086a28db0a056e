"""RecBole's transformer encoder, read at one position a row.

Models that read only the state at the end of each history need the last layer's queries, output
projection and feed-forward net there alone; keys and values still come from every position.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_llmgraph.host.originals import TransformerEncoder


def fuse_gelu(encoder: TransformerEncoder) -> None:
    """Replace RecBole's four-step GELU by torch's fused one: the same function, exact erf."""
    for layer in encoder.layer:
        if layer.feed_forward.intermediate_act_fn.__name__ == "gelu":
            layer.feed_forward.intermediate_act_fn = F.gelu


def encode_at(encoder: TransformerEncoder, states: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """`encoder(states, mask)[-1][b, positions[b]]`, without computing the last layer elsewhere.

    Args:
        encoder: RecBole's encoder.
        states: embedded histories. `[B, L, d]`
        mask: 0 where a query may look, -10000 elsewhere. `[B, 1, L or 1, L]`
        positions: position read in each row. `[B]`

    Returns:
        States of the last layer. `[B, d]`
    """
    for layer in encoder.layer[:-1]:
        states = layer(states, mask)
    rows = torch.arange(len(positions), device=positions.device)
    here = states[rows, positions].unsqueeze(1)
    mask = mask.expand(-1, -1, states.shape[1], -1)[rows, :, positions].unsqueeze(2)
    last = encoder.layer[-1]
    found: Tensor = last.feed_forward(_attend(last.multi_head_attention, here, states, mask))
    return found.squeeze(1)


def _attend(attention: Any, queries: Tensor, states: Tensor, mask: Tensor) -> Tensor:
    """RecBole's `MultiHeadAttention.forward`, queries apart. `[B, Q, d], [B, L, d] -> [B, Q, d]`"""
    split = attention.transpose_for_scores
    query = split(attention.query(queries)).permute(0, 2, 1, 3)  # [B, h, Q, d/h]
    key = split(attention.key(states)).permute(0, 2, 3, 1)  # [B, h, d/h, L]
    value = split(attention.value(states)).permute(0, 2, 1, 3)  # [B, h, L, d/h]
    weights = torch.softmax(query @ key / attention.sqrt_attention_head_size + mask, dim=-1)
    context = (attention.attn_dropout(weights) @ value).permute(0, 2, 1, 3).flatten(2)
    mixed: Tensor = attention.LayerNorm(attention.out_dropout(attention.dense(context)) + queries)
    return mixed
