"""Low-rank adapters (Hu et al. 2022) through peft."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from recbole_llmgraph.base.errors import unknown

#: Feed-forward projections of a Llama layer, the ones HeLLM adapts.
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")


def add_lora(
    model: Any,
    r: int = 16,
    alpha: int = 16,
    dropout: float = 0.05,
    targets: Sequence[str] = FEED_FORWARD,
) -> int:
    """Freeze a backbone and put adapters beside its linear layers, in place.

    Args:
        model: the backbone; its own weights keep their dtype.
        r: rank.
        alpha: scale; the adapters' product is multiplied by alpha / r.
        dropout: on the adapters' input.
        targets: last names of the adapted layers.

    Returns:
        Number of trainable parameters: r · (in + out) for every adapted layer, in float32.

    Raises:
        UserError: when no layer has such a name.
    """
    from peft import LoraConfig, inject_adapter_in_model

    linear = (name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    known = {name.rpartition(".")[2] for name in linear}
    for target in targets:
        if target not in known:
            raise unknown("linear layer of this backbone for lora", target, known)
    freeze(model)
    config = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets))
    inject_adapter_in_model(config, model)
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)
        if weight.requires_grad:
            weight.data = weight.data.to(torch.float32)
    return trainable(model)


def freeze(model: nn.Module) -> None:
    """Train none of the weights that `model` has now."""
    model.requires_grad_(False)


def trainable(model: nn.Module) -> int:
    """Number of weights that training changes, shared ones counted once."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
