"""Rows land where the template says, whatever else is in the batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.lm.builtin import build_tokenizer
from recbole_llmgraph.lm.decoder import last_states
from recbole_llmgraph.lm.slots import SlotPrompt

TOKENIZER = build_tokenizer(["Purchases of the user next item"] * 3)
EMBEDDING = torch.nn.Embedding(len(TOKENIZER), 8)
BOS, EOS = TOKENIZER.bos_token_id, TOKENIZER.eos_token_id


def ids(text):
    return TOKENIZER(text, add_special_tokens=False).input_ids


def texts(*tokens):
    return EMBEDDING(torch.tensor(tokens, dtype=torch.long))


def fill(prompt, rows, lists, **options):
    """Fill a single slot from ragged lists of row numbers."""
    longest = max(map(len, lists), default=0)
    padded = torch.zeros(len(lists), longest, dtype=torch.long)
    for line, numbers in enumerate(lists):
        padded[line, : len(numbers)] = torch.tensor(numbers, dtype=torch.long)
    lengths = torch.tensor([len(numbers) for numbers in lists])
    return prompt(EMBEDDING, rows, {prompt.slots[0]: (padded, lengths)}, **options)


@settings(deadline=None, max_examples=60)
@given(
    lists=st.lists(st.lists(st.integers(0, 6), max_size=5), min_size=1, max_size=5),
    template=st.sampled_from(["Purchases {x} next item", "{x} next", "Purchases {x}", "{x}"]),
    bos=st.sampled_from(["once", "release", "none"]),
    eos=st.booleans(),
    side=st.sampled_from(["left", "right"]),
    k=st.integers(0, 3),
)
def test_rows_stand_in_their_places(lists, template, bos, eos, side, k):
    if template == "{x}" and bos == "none" and not eos:
        eos = True  # a prompt of no tokens at all is no prompt
    rows = torch.arange(7.0).add(10)[:, None].expand(7, 8)
    batch = fill(SlotPrompt(template, TOKENIZER, bos=bos, eos=eos), rows, lists, side=side, prefix_length=k)
    before, after = (ids(piece.strip()) for piece in template.split("{x}"))
    if bos != "none":
        before = [BOS, *before]
    if bos == "release" and after:
        after = [BOS, *after]
    after = after + [EOS] * eos
    longest = max(len(before) + len(numbers) + len(after) for numbers in lists)
    assert batch.inputs_embeds.shape == (len(lists), longest, 8)
    for line, numbers in enumerate(lists):
        expected = torch.cat([texts(*before), rows[numbers], texts(*after)])
        pad = longest - len(expected)
        place = slice(pad, None) if side == "left" else slice(0, len(expected))
        torch.testing.assert_close(batch.inputs_embeds[line, place], expected)
        assert batch.mask[line].sum() == len(expected)
        assert batch.mask[line, place].all()
        assert (batch.inputs_embeds[line][~batch.mask[line]] == 0).all()
        assert batch.position_ids[line, place].tolist() == list(range(k, k + len(expected)))
        assert batch.last[line] == (longest - 1 if side == "left" else len(expected) - 1)
        assert batch.attention_mask[line].tolist() == [1] * k + batch.mask[line].long().tolist()


def test_several_slots_fill_in_order():
    prompt = SlotPrompt("user {u} bought {items} next", TOKENIZER, bos="none", eos=True)
    rows = torch.arange(5.0)[:, None].expand(5, 8)
    users = (torch.tensor([[4], [3]]), torch.tensor([1, 1]))
    items = (torch.tensor([[0, 1], [2, 0]]), torch.tensor([2, 1]))
    batch = prompt(EMBEDDING, rows, {"items": items, "u": users}, side="right")
    expected = [texts(*ids("user")), rows[[3]], texts(*ids("bought")), rows[[2]], texts(*ids("next"), EOS)]
    torch.testing.assert_close(batch.inputs_embeds[1][batch.mask[1]], torch.cat(expected))


def test_who_may_look_where():
    prompt = SlotPrompt("{x} next", TOKENIZER, bos="none")
    batch = fill(prompt, torch.zeros(3, 8), [[0], [1, 2]], prefix_length=2)
    for line in range(2):
        for row in range(batch.mask.shape[1]):
            for column in range(batch.mask.shape[1]):
                may = (column <= row and bool(batch.mask[line, column])) or row == column
                assert batch.causal_mask[line, 0, row, 2 + column] == may
    assert batch.causal_mask[..., :2].all()


def test_result_does_not_depend_on_the_batch(llama):
    rows = torch.randn(6, llama.width)
    prompt = SlotPrompt("Purchases {x} next", llama.tokenizer)
    embed = llama.model.embed_tokens

    def run(lists):
        padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(x) for x in lists], batch_first=True)
        lengths = torch.tensor([len(x) for x in lists])
        return last_states(llama.model, prompt(embed, rows, {"x": (padded, lengths)}))

    lists = [[0, 1, 2, 3, 4, 5], [2], [5, 0, 3]]
    together = run(lists)
    for line, numbers in enumerate(lists):
        torch.testing.assert_close(together[line], run([numbers])[0], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(together.flip(0), run(lists[::-1]), atol=2e-6, rtol=1e-5)


def test_gradient_reaches_only_the_rows_in_use(llama):
    torch.manual_seed(0)
    rows = torch.randn(4, llama.width, requires_grad=True)
    prompt = SlotPrompt("Purchases {x} next", llama.tokenizer)
    filling = {"x": (torch.tensor([[0, 3], [2, 1]]), torch.tensor([2, 1]))}
    state = last_states(llama.model, prompt(llama.model.embed_tokens, rows, filling))
    (state * torch.randn_like(state)).sum().backward()
    assert rows.grad.abs().sum(1).gt(1e-5).tolist() == [True, False, True, True]


def test_rows_take_the_dtype_of_the_text():
    embedding = torch.nn.Embedding(len(TOKENIZER), 8).to(torch.bfloat16)
    prompt = SlotPrompt("a {x}", TOKENIZER)
    batch = prompt(embedding, torch.zeros(1, 8), {"x": (torch.zeros(1, 1).long(), torch.tensor([1]))})
    assert batch.inputs_embeds.dtype == torch.bfloat16


def test_mistakes_are_named():
    with pytest.raises(UserError, match="twice"):
        SlotPrompt("{x} and {x}", TOKENIZER)
    bare = build_tokenizer(["a"])
    bare.bos_token = None
    with pytest.raises(UserError, match="bos: none"):
        SlotPrompt("{x}", bare)
    with pytest.raises(ValueError, match="slots are"):
        SlotPrompt("{x}", TOKENIZER)(EMBEDDING, torch.zeros(1, 8), {})
