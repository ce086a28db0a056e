"""Lists of titles and rows, against plain Python lists."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from recbole_llmgraph.lm.builtin import build_tokenizer
from recbole_llmgraph.lm.slots import SlotPrompt
from recbole_llmgraph.lm.titles import Titles

TEXTS = ["", "nail polish red", "hair", "face cream of roses and milk", ""]
HISTORIES = st.lists(st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=5), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer(TEXTS, 512)


def padded(histories: list[list[int]], more: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Entries padded on the right with something that must not be read, and their numbers."""
    entries = torch.full((len(histories), max(map(len, histories)) + more), 3)
    for row, history in zip(entries, histories, strict=True):
        row[: len(history)] = torch.tensor(history)
    return entries, torch.tensor([len(history) for history in histories])


def by_hand(tokenizer: Any, entry: int, longest: int, closing: str) -> list[int]:
    ids: list[int] = tokenizer(TEXTS[entry], add_special_tokens=False).input_ids[:longest]
    return ids + (tokenizer(closing, add_special_tokens=False).input_ids if closing else [])


@given(histories=HISTORIES, longest=st.integers(1, 9), closing=st.sampled_from(["", ","]), own=st.booleans())
def test_lists_are_titles_then_rows(
    histories: list[list[int]], longest: int, closing: str, own: bool, tokenizer: Any
) -> None:
    embedding = nn.Embedding(len(tokenizer), 6)
    table = torch.randn(len(TEXTS), 6)
    entries, lengths = padded(histories)
    titles = Titles(TEXTS, tokenizer, longest, closing)
    filled = titles(embedding, entries, lengths, (table, entries) if own else None)
    for line, count, history in zip(filled.places, filled.lengths.tolist(), histories, strict=True):
        expected = []
        for entry in history:
            expected += [embedding.weight[i] for i in by_hand(tokenizer, entry, longest, closing)]
            expected += [table[entry]] * own
        found = filled.rows[line[:count]]
        assert len(found) == len(expected)
        assert not expected or torch.equal(found, torch.stack(expected))


def test_a_prompt_takes_them_and_gradients_reach_words_and_rows(tokenizer: Any) -> None:
    embedding, table = nn.Embedding(len(tokenizer), 6), nn.Parameter(torch.randn(len(TEXTS), 6))
    entries, lengths = padded([[1, 2], [3]])
    filled = Titles(TEXTS, tokenizer, 2)(embedding, entries, lengths, (table, entries))
    prompt = SlotPrompt("Read: {items} Next:", tokenizer)
    batch = prompt(embedding, filled.rows, {"items": (filled.places, filled.lengths)})
    frame = len(prompt.text)
    assert batch.mask.sum(1).tolist() == [
        frame + sum(len(by_hand(tokenizer, entry, 2, "")) + 1 for entry in history)
        for history in ([1, 2], [3])
    ]
    batch.inputs_embeds.square().sum().backward()
    assert table.grad is not None and (table.grad.abs().sum(1) > 0).tolist() == [
        False,
        True,
        True,
        True,
        False,
    ]
    read = {i for entry in (1, 2, 3) for i in by_hand(tokenizer, entry, 2, "")} | set(prompt.text.tolist())
    assert embedding.weight.grad is not None
    assert set(embedding.weight.grad.abs().sum(1).nonzero().flatten().tolist()) == read


def test_entries_without_text_or_rows_leave_nothing(tokenizer: Any) -> None:
    filled = Titles(["", ""], tokenizer, 4)(nn.Embedding(len(tokenizer), 3), *padded([[0], [1]], 0), None)
    assert filled.lengths.tolist() == [0, 0] and filled.places.shape == (2, 0)
