"""Prompts in one line, against lists of lists."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.lm.packed import Packed, pack

#: Several forms, each some prompts of one token or more.
FORMS = st.lists(
    st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=5), max_size=4), min_size=1, max_size=4
)


def padded(prompts: list[list[int]]) -> torch.Tensor:
    longest = max(map(len, prompts), default=0)
    rows = [prompt + [0] * (longest - len(prompt)) for prompt in prompts]
    return torch.tensor(rows, dtype=torch.long).view(len(prompts), longest)


def lines(packed: Packed) -> list[list[int]]:
    """Prompts as they lie in the line."""
    return [row for part in packed.by_length(packed.rows) for row in part.tolist()]


@settings(max_examples=100, deadline=None)
@given(FORMS)
def test_the_line_holds_every_prompt_whole_and_nothing_else(forms) -> None:
    prompts = [prompt for form in forms for prompt in form]
    packed = pack([padded(form) for form in forms])
    assert packed.rows.tolist() == [token for line in lines(packed) for token in line]
    assert [prompts[number] for number in packed.order.tolist()] == lines(packed)
    assert sorted(packed.order.tolist()) == list(range(len(prompts)))
    lengths = [length for _, length in packed.groups]
    assert lengths == sorted(set(lengths)) == sorted({len(prompt) for prompt in prompts})
    assert [count for count, _ in packed.groups] == [
        sum(len(prompt) == length for prompt in prompts) for length in lengths
    ]


@settings(max_examples=100, deadline=None)
@given(FORMS.filter(any))
def test_means_and_states_come_back_in_the_order_of_the_prompts(forms) -> None:
    prompts = [prompt for form in forms for prompt in form]
    packed = pack([padded(form) for form in forms])
    states = torch.stack([packed.rows.double(), packed.rows.double() ** 2], dim=1)
    expected = [[sum(prompt) / len(prompt), sum(t * t for t in prompt) / len(prompt)] for prompt in prompts]
    torch.testing.assert_close(packed.means(states), torch.tensor(expected, dtype=torch.double))
    firsts = torch.tensor([line[0] for line in lines(packed)])
    assert packed.unpacked(firsts).tolist() == [prompt[0] for prompt in prompts]


def test_by_length_gives_views_and_gradients_reach_their_tokens() -> None:
    packed = pack([torch.tensor([[4, 5, 0], [6, 0, 0], [7, 8, 9]])])
    states = torch.ones(6, 2, requires_grad=True)
    assert all(part.untyped_storage().data_ptr() == states.untyped_storage().data_ptr()
               for part in packed.by_length(states))  # fmt: skip
    packed.means(states)[1].sum().backward()
    assert states.grad[:, 0].tolist() == [1, 0, 0, 0, 0, 0]


def test_a_prompt_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="without any token"):
        pack([torch.tensor([[3, 0], [0, 0]])])
