"""Adapters beside frozen layers."""

import pytest
import torch

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.lm.lora import FEED_FORWARD, add_lora, trainable


def test_counts_and_freezes(llama):
    hidden, inner, rank = 128, 344, 4
    assert add_lora(llama.model, r=rank, alpha=4) == 2 * 3 * rank * (hidden + inner)
    for name, weight in llama.model.named_parameters():
        assert weight.requires_grad == ("lora_" in name), name


def test_starts_as_the_backbone_and_then_learns(llama):
    ids = torch.tensor([[3, 4, 5]])
    before = llama.model(ids).last_hidden_state.detach()
    add_lora(llama.model, dropout=0.0)
    torch.testing.assert_close(llama.model(ids).last_hidden_state, before)
    adapted = [weight for weight in llama.model.parameters() if weight.requires_grad]
    optimiser = torch.optim.SGD(adapted, lr=1.0)
    for _ in range(3):
        optimiser.zero_grad()
        llama.model(ids).last_hidden_state.sum().backward()
        optimiser.step()
    assert (llama.model(ids).last_hidden_state - before).abs().max() > 1e-3


def test_equals_the_low_rank_sum(llama):
    layer = llama.model.layers[0].mlp
    weight = layer.up_proj.weight.detach().clone()
    add_lora(llama.model, r=2, alpha=6, dropout=0.0, targets=["up_proj"])
    a, b = layer.up_proj.lora_A["default"].weight, layer.up_proj.lora_B["default"].weight
    b.data.normal_()
    x = torch.randn(5, 128)
    torch.testing.assert_close(layer.up_proj(x), x @ (weight + 3 * b @ a).T, atol=1e-4, rtol=1e-4)


def test_adapters_stay_in_full_precision(llama):
    llama.model.to(torch.bfloat16)
    add_lora(llama.model)
    kinds = {weight.dtype for weight in llama.model.parameters() if weight.requires_grad}
    assert kinds == {torch.float32}
    assert llama.model.layers[0].mlp.up_proj.base_layer.weight.dtype == torch.bfloat16
    llama.model(torch.tensor([[1, 2]])).last_hidden_state.float().sum().backward()
    assert trainable(llama.model) > 0


def test_unknown_layer_is_named(llama):
    with pytest.raises(UserError, match="Did you mean 'gate_proj'"):
        add_lora(llama.model, targets=["gate_prj"])
    assert all(weight.requires_grad for weight in llama.model.parameters()), "a refused call changes nothing"


def test_default_layers_are_those_of_the_paper():
    assert FEED_FORWARD == ("gate_proj", "up_proj", "down_proj")
