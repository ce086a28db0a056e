"""T5's decoder over the states of packed prompts: whole answers at once, or beams a piece at a time.

Keys and values of the prompts are made once. Beams keep those of their own pieces (`Cache`), which follow
them when they are put in another order. Both ways give what transformers' own decoder gives.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_llmgraph.lm.feedforward import feed_forward
from recbole_llmgraph.lm.fused import norm
from recbole_llmgraph.lm.packed import Packed


@dataclass(frozen=True)
class Memory:
    """What a decoder looks at, prompts in the order they came.

    Attributes:
        keys: of every layer. `[S, h, L, w]`
        values: likewise.
        there: which places hold a token. `[S, 1, 1, L]`
    """

    keys: list[Tensor]
    values: list[Tensor]
    there: Tensor


def remember(decoder: Any, states: Tensor, packed: Packed) -> Memory:
    """Keys and values of every layer's look at the encoder's states `[T, D]`."""
    counts, lengths = torch.tensor(packed.groups, device=states.device).T
    sizes = lengths.repeat_interleave(counts)
    starts, sizes = packed.unpacked(sizes.cumsum(0) - sizes), packed.unpacked(sizes)
    place = torch.arange(int(lengths.max()), device=states.device)
    there = place < sizes.unsqueeze(1)
    lookup = torch.where(there, starts.unsqueeze(1) + place, 0)  # [S, L]
    keys, values = [], []
    for block in decoder.block:
        look = block.layer[1].EncDecAttention
        both = F.embedding(lookup, torch.cat([look.k(states), look.v(states)], dim=1))
        key, value = both.chunk(2, dim=2)
        keys.append(_heads(look, key))
        values.append(_heads(look, value))
    return Memory(keys, values, there[:, None, None])


@dataclass
class Cache:
    """Keys and values of what beams wrote, a layer each. `[S W, h, t, w]`"""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def follow(self, parents: Tensor) -> None:
        """Let each beam have what the beam it grew from had. `[S, W]`"""
        if self.keys:
            count = len(self.keys[0]) // len(parents)
            first = torch.arange(len(parents), device=parents.device).unsqueeze(1) * count
            rows = (first + parents).flatten()
            self.keys = [part[rows] for part in self.keys]
            self.values = [part[rows] for part in self.values]

    def add(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """One more piece a beam, `[S W, h, 1, w]`; all of them so far."""
        if layer == len(self.keys):
            self.keys.append(key)
            self.values.append(value)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], key], dim=2)
            self.values[layer] = torch.cat([self.values[layer], value], dim=2)
        return self.keys[layer], self.values[layer]


def decode(decoder: Any, inputs: Tensor, memory: Memory, cache: Cache | None = None) -> Tensor:
    """States of the decoder.

    Args:
        decoder: `T5ForConditionalGeneration.decoder`.
        inputs: rows of Q pieces of each prompt, each of which sees those before it; with a cache, rows of
            the newest piece of each of Q beams. `[S, Q, D]`
        memory: of the prompts.
        cache: of the beams; gains this piece.

    Returns:
        `[S, Q, D]`
    """
    prompts, count, _ = inputs.shape
    hidden = decoder.dropout(inputs).flatten(0, 1)
    bias = _bias(decoder, count, cache)
    for number, block in enumerate(decoder.block):
        own, cross, last_layer = block.layer
        attention = own.SelfAttention
        normed = norm(own.layer_norm, hidden)
        apart = (prompts, count) if cache is None else (prompts * count, 1)
        query, key, value = (
            _heads(attention, part(normed).unflatten(0, apart))
            for part in (attention.q, attention.k, attention.v)
        )
        if cache is not None:
            key, value = cache.add(number, key, value)
        hidden = hidden + own.dropout(_attend(attention, query, key, value, bias))
        look = cross.EncDecAttention
        query = _heads(look, look.q(norm(cross.layer_norm, hidden)).unflatten(0, (prompts, count)))
        seen = memory.keys[number], memory.values[number], memory.there
        hidden = hidden + cross.dropout(_attend(look, query, *seen))
        hidden = feed_forward(last_layer, hidden)
    states: Tensor = decoder.dropout(norm(decoder.final_layer_norm, hidden)).unflatten(0, (prompts, count))
    return states


def _bias(decoder: Any, count: int, cache: Cache | None) -> Tensor:
    """Of positions; what comes later is barred. `[1, h, Q, Q]`, or `[1, h, 1, t]` for beams' newest piece"""
    attention = decoder.block[0].layer[0].SelfAttention
    if cache is not None:
        length = 1 + (cache.keys[0].shape[2] if cache.keys else 0)
        newest: Tensor = attention.compute_bias(length, length)[:, :, -1:]
        return newest
    bias: Tensor = attention.compute_bias(count, count)
    later = torch.ones(count, count, dtype=torch.bool, device=bias.device).triu(1)
    return bias.masked_fill(later, -torch.inf)


def _heads(attention: Any, projected: Tensor) -> Tensor:
    """`[n, L, h * w]` to `[n, h, L, w]`"""
    heads: Tensor = projected.unflatten(2, (attention.n_heads, attention.key_value_proj_dim)).transpose(1, 2)
    return heads


def _attend(attention: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """T5's attention, without a scale, and its projection. `[n, h, Q, w], [n, h, L, w]` to `[n Q, D]`"""
    dropout = attention.dropout if attention.training else 0.0
    mixed = F.scaled_dot_product_attention(query, key, value, bias, dropout, scale=1.0)
    out: Tensor = attention.o(mixed.transpose(1, 2).flatten(0, 1).flatten(1))
    return out
