"""Key/value prefix: rows that every layer's attention sees before the first token.

    P_K^l = RMSNorm(learned_K^l + RMSNorm(p_K))        [k, D]        P_V^l alike
    keys of layer l = [ W_k^l P_K^l ; RoPE(W_k^l x) ]                 values alike

p_K and p_V come from the caller (HeLLM: from the user's item graph, eq. 9–10). The
prefix keys are not rotated and the first token stands at position k.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import DynamicCache

Variant = Literal["release", "paper"]


class KeyValuePrefix(nn.Module):
    """Learned prefix rows of every layer, conditioned on one vector a sequence.

    Args:
        model: the decoder that the prefix is for; only its sizes are read.
        length: k, number of prefix rows.
        variant: `release` as above; `paper` takes P^l = p + learned^l (one p for all k rows),
            which enters keys and values unprojected.
        eps: of the norms.

    Attributes:
        width: size of a row, and of the caller's p_K and p_V: D, or the width of all key/value
            heads together in `paper`.
    """

    def __init__(self, model: Any, length: int = 10, variant: Variant = "release", eps: float = 1e-6) -> None:
        super().__init__()
        config = model.config
        self.length = length
        self.projected = variant == "release"
        self.width = int(config.hidden_size) if self.projected else key_width(model)
        shape = (int(config.num_hidden_layers), length, self.width)
        # Unit scale beside the unit scale of a normed p; without norms, a small offset from p.
        std = 1.0 if self.projected else 0.02
        self.learned_key = nn.Parameter(torch.randn(shape) * std)
        self.learned_value = nn.Parameter(torch.randn(shape) * std)
        norms = ("condition_key", "condition_value", "row_key", "row_value") if self.projected else ()
        self.norms = nn.ModuleDict({name: nn.RMSNorm(self.width, eps=eps) for name in norms})

    def forward(self, key: Tensor | None, value: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rows of all layers.

        Args:
            key: p_K [B, width]; `None` for a learned prefix alone.
            value: p_V [B, width]; `None` likewise.

        Returns:
            Rows for keys and for values, [layers, B, k, width]; B is 1 without conditions.
        """
        return self._rows("key", self.learned_key, key), self._rows("value", self.learned_value, value)

    def cache(self, model: Any, key: Tensor | None, value: Tensor | None, batch: int) -> "DynamicCache":
        """The prefix as a fresh cache for one forward pass of `model` over `batch` sequences."""
        keys, values = self(key, value)
        return prefix_cache(model, keys, values, batch=batch, projected=self.projected)

    def _rows(self, name: str, learned: Tensor, condition: Tensor | None) -> Tensor:
        rows = learned.unsqueeze(1)  # [L, 1, k, w]
        if condition is not None:
            if self.projected:
                condition = self.norms[f"condition_{name}"](condition)
            rows = rows + condition.view(1, -1, 1, self.width)  # [L, B, k, w]
        normed: Tensor = self.norms[f"row_{name}"](rows) if self.projected else rows
        return normed


def key_width(model: Any) -> int:
    """Width of all key heads of a layer together: less than D with grouped queries."""
    return int(model.layers[0].self_attn.k_proj.out_features)


def prefix_cache(
    model: Any,
    keys: Sequence[Tensor] | Tensor,
    values: Sequence[Tensor] | Tensor,
    *,
    batch: int | None = None,
    projected: bool = True,
) -> "DynamicCache":
    """Lay prefix rows before the tokens of a forward pass.

    Use each cache once: a forward pass appends the tokens' keys and values to it.

    Args:
        model: Llama-family decoder with `layers[l].self_attn.k_proj` and `v_proj`.
        keys: for each layer rows [B or 1, k, D]; [B or 1, k, heads · head_dim] unless `projected`.
        values: likewise.
        batch: B, when the rows are shared by all sequences.
        projected: pass the rows through each layer's own projections.

    Returns:
        A cache of length k with gradients to `keys` and `values`.
    """
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer, key, value in zip(range(len(model.layers)), keys, values, strict=True):
        attention = model.layers[layer].self_attn
        key, value = key.to(model.dtype), value.to(model.dtype)
        if projected:
            key, value = attention.k_proj(key), attention.v_proj(value)
        cache.update(_heads(key, attention, batch), _heads(value, attention, batch), layer)
    return cache


def _heads(rows: Tensor, attention: Any, batch: int | None) -> Tensor:
    """[B or 1, k, heads · head_dim] → [B, heads, k, head_dim]."""
    split: Tensor = rows.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
    return split if batch is None else split.expand(batch, -1, -1, -1)
