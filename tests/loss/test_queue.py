"""The ring of negatives against a plain list that forgets its oldest."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.loss.infonce import infonce
from recbole_llmgraph.loss.queue import NegativeQueue


def row(number: int) -> list[float]:
    return [float(number), float(-number)]


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 7), st.lists(st.integers(0, 17), max_size=8))
def test_holds_the_latest_entries(length, batches):
    """Batches of any size, empty and longer than the ring, wrapping as they must."""
    queue, remembered, number = NegativeQueue(length, 2), [], 0
    for size in batches:
        numbers = list(range(number, number + size))
        number += size
        queue.push(
            torch.tensor([row(k) for k in numbers]).view(-1, 2), torch.tensor(numbers, dtype=torch.long)
        )
        remembered = (remembered + numbers)[-length:]
        assert len(queue) == len(remembered)
        assert sorted(i for i in queue.ids.tolist() if i >= 0) == remembered
        for entry, vector in zip(queue.ids.tolist(), queue.rows.tolist(), strict=True):
            assert vector == (row(entry) if entry >= 0 else [0, 0])


def test_the_oldest_slot_is_overwritten_first():
    queue = NegativeQueue(4, 2)
    for numbers in ([0, 1, 2], [3, 4], [5]):
        queue.push(torch.tensor([row(k) for k in numbers]), torch.tensor(numbers))
    assert queue.ids.tolist() == [4, 5, 2, 3]


def test_masks_own_and_empty_slots():
    queue = NegativeQueue(5, 2)
    queue.push(torch.randn(3, 2), torch.tensor([8, 9, 8]))
    assert queue.mask(torch.tensor([8, 1])).tolist() == [
        [True, False, True, True, True],
        [False, False, False, True, True],
    ]


def test_masked_slots_do_not_count_in_the_loss():
    torch.manual_seed(0)
    queue = NegativeQueue(5, 3)
    rows = torch.randn(3, 3)
    queue.push(rows, torch.tensor([8, 9, 8]))
    anchor, positive = torch.randn(2, 1, 3).unbind(0)
    found = infonce(anchor, positive, queue.rows, 0.2, queue.mask(torch.tensor([8])))
    torch.testing.assert_close(found, infonce(anchor, positive, rows[[1]], 0.2))


def test_a_new_queue_gives_no_loss():
    queue = NegativeQueue(5, 3)
    anchor = torch.randn(2, 3)
    assert float(infonce(anchor, anchor, queue.rows, 0.1, queue.mask(torch.tensor([0, 1])))) == 0


def test_entries_carry_no_gradient_and_a_push_before_backward_is_harmless():
    queue = NegativeQueue(4, 3)
    encodings = torch.randn(2, 3, requires_grad=True)
    queue.push(torch.randn(4, 3), torch.arange(4))
    loss = infonce(encodings, torch.randn(2, 3), queue.rows, 0.2, queue.mask(torch.tensor([8, 9])))
    queue.push(encodings, torch.tensor([8, 9]))
    loss.backward()
    assert torch.isfinite(encodings.grad).all()
    assert not queue.rows.requires_grad


def test_a_resumed_queue_goes_on_where_it_stopped():
    queue, again = NegativeQueue(4, 2), NegativeQueue(4, 2)
    queue.push(torch.randn(3, 2), torch.arange(3))
    again.load_state_dict(queue.state_dict())
    for one in (queue, again):
        one.push(torch.ones(2, 2), torch.tensor([7, 8]))
    assert torch.equal(queue.rows, again.rows) and torch.equal(queue.ids, again.ids)


@pytest.mark.parametrize(
    ("rows", "ids", "said"),
    [
        (torch.randn(2, 3), [1, 2], r"expected \[2, 2\] rows"),
        (torch.randn(1, 2), [-1], "must not be negative"),
    ],
)
def test_what_does_not_fit_is_told(rows, ids, said):
    with pytest.raises(ValueError, match=said):
        NegativeQueue(4, 2).push(rows, torch.tensor(ids))
    with pytest.raises(ValueError, match="positive length and width"):
        NegativeQueue(0, 2)
