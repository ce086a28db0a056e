"""Answers after packed prompts against transformers' own decoder, whole and a piece at a time."""

from typing import Any

import pytest
import torch
from torch import Tensor

from recbole_llmgraph.lm.backbone import Backbone, open_backbone
from recbole_llmgraph.lm.packed import Packed, pack
from recbole_llmgraph.lm.quick import quicken
from recbole_llmgraph.lm.t5_decoder import Cache, decode, remember

LENGTHS, PIECES = [4, 1, 9, 4, 2], 4
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def opened() -> Backbone:
    found = open_backbone("builtin:t5-mini", family="t5", texts=["next"])
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in found.model.named_parameters():
            if "layer_norm" in name:
                weight.uniform_(0.5, 1.5)
            if "relative_attention_bias" in name:
                weight.normal_()
    found.model.eval()
    return found


@pytest.fixture
def line(opened: Backbone) -> tuple[Tensor, Packed, Tensor, Tensor]:
    """States in a line, how they lie in it, the same padded, and the padded mask."""
    torch.manual_seed(1)
    states = torch.randn(sum(LENGTHS), opened.width)
    index = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    start = 1
    for row, length in enumerate(LENGTHS):
        index[row, :length] = torch.arange(start, start + length)
        start += length
    packed = pack([index])
    padded = torch.cat([torch.zeros(1, opened.width), states])[index]
    return states[packed.rows - 1].requires_grad_(), packed, padded, (index > 0).long()


def own_way(model: Any, inputs: Tensor, padded: Tensor, mask: Tensor) -> Tensor:
    found: Tensor = model.decoder(
        inputs_embeds=inputs, encoder_hidden_states=padded, encoder_attention_mask=mask
    ).last_hidden_state
    return found


@pytest.mark.parametrize("quick", [False, True])
def test_whole_answers_equal_transformers(opened: Backbone, line: Any, quick: bool) -> None:
    states, packed, padded, mask = line
    inputs = torch.randn(len(LENGTHS), PIECES, opened.width)
    with torch.no_grad():
        expected = own_way(opened.model, inputs, padded, mask)
    if quick:
        quicken(opened.model)
    decoder: Any = opened.model.decoder
    found = decode(decoder, inputs, remember(decoder, states, packed))
    torch.testing.assert_close(found, expected, **CLOSE)


def test_gradients_equal_transformers(opened: Backbone, line: Any) -> None:
    states, packed, padded, mask = line
    model: Any = opened.model
    inputs = torch.randn(len(LENGTHS), PIECES, opened.width, requires_grad=True)
    pull = torch.randn(len(LENGTHS), PIECES, opened.width)
    weights = [inputs, *model.decoder.block.parameters()]
    padded.requires_grad_()
    expected = torch.autograd.grad((own_way(model, inputs, padded, mask) * pull).sum(), [padded, *weights])
    answers = decode(model.decoder, inputs, remember(model.decoder, states, packed))
    found = torch.autograd.grad((answers * pull).sum(), [states, *weights])
    theirs = expected[0][mask.bool()]
    where = (mask > 0).nonzero()[:, 0].argsort(stable=True)
    lined = torch.cat([theirs[where][start : start + size] for start, size in _places(packed)])
    for a, b in zip(found, [lined, *expected[1:]], strict=True):
        assert float((a - b).norm()) <= 2e-5 * max(1.0, float(b.norm()))


def _places(packed: Packed) -> list[tuple[int, int]]:
    """Start and length of the prompts in the order in which they were packed."""
    starts = [sum(LENGTHS[:row]) for row in range(len(LENGTHS))]
    return [(starts[row], LENGTHS[row]) for row in packed.order.tolist()]


def test_beams_a_piece_at_a_time_equal_whole_answers(opened: Backbone, line: Any) -> None:
    """Beams are dealt to other parents at every step; each one's states are those of its whole answer."""
    states, packed, _, _ = line
    decoder: Any = opened.model.decoder
    torch.manual_seed(3)
    prompts, beams, cache = len(LENGTHS), 3, Cache()
    written = torch.zeros(prompts, 1, 0, opened.width)
    with torch.no_grad():
        memory = remember(decoder, states, packed)
        for depth in range(PIECES):
            parents = torch.randint(written.shape[1], (prompts, beams if depth else 1))
            newest = torch.randn(*parents.shape, opened.width)
            rows = torch.arange(prompts).unsqueeze(1)
            written = torch.cat([written[rows, parents], newest.unsqueeze(2)], dim=2)
            cache.follow(parents)
            found = decode(decoder, newest, memory, cache)
            for beam in range(written.shape[1]):
                whole = decode(decoder, written[:, beam], memory)[:, -1]
                torch.testing.assert_close(found[:, beam], whole, **CLOSE)
