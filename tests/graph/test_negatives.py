"""Negatives by degree: exactly the wanted distribution, and never what the user met."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.graph.negatives import UNITS, DegreeNegatives


def expected(degrees: np.ndarray, met: set[int], alpha: float) -> np.ndarray:
    """P(j) ∝ d_j^alpha outside of `met`, by the book."""
    weight = np.array([d**alpha if d > 0 and j not in met else 0.0 for j, d in enumerate(degrees)])
    return weight / weight.sum()


DEGREES = np.array([0, 1, 2, 3, 50, 7, 0, 11, 400, 5])
MET = {1: {8}, 2: {1, 2, 3}, 3: {4, 5, 7, 8}, 4: set(), 5: {9, 6, 1}}


def sampler(
    alpha: float = 0.75, degrees: np.ndarray = DEGREES, met: dict[int, set[int]] = MET
) -> DegreeNegatives:
    pairs = [(user, item) for user, items in met.items() for item in items]
    pairs += pairs[:2]  # repeats count once
    users, items = (torch.tensor(column) for column in zip(*pairs, strict=True))
    return DegreeNegatives(torch.from_numpy(degrees), users, items, max(met) + 1, alpha=alpha)


@pytest.mark.parametrize("alpha", [0.0, 0.75, 1.0])
def test_drawn_items_follow_the_degrees_outside_of_what_was_met(alpha: float) -> None:
    torch.manual_seed(1)
    draw, n = sampler(alpha), 200_000
    for user, met in MET.items():
        counts = np.bincount(draw(torch.tensor([user]), n)[0].numpy(), minlength=len(DEGREES))
        wanted = expected(DEGREES, met, alpha)
        assert counts[wanted == 0].sum() == 0
        places = wanted > 0
        chi = ((counts[places] - n * wanted[places]) ** 2 / (n * wanted[places])).sum()
        assert chi < 30  # at most 9 degrees of freedom: p < 0.0005


def test_rows_of_one_batch_are_independent() -> None:
    torch.manual_seed(2)
    drawn = sampler(1.0)(torch.tensor([4, 4]), 50_000)
    same = (drawn[0] == drawn[1]).double().mean()
    wanted = expected(DEGREES, set(), 1.0)
    assert float(same) == pytest.approx(float((wanted**2).sum()), abs=0.01)


def test_one_user_in_a_batch_does_not_see_anothers_items() -> None:
    """All lines lie in one sorted list; each draw must stay on its own."""
    torch.manual_seed(3)
    users = torch.tensor([1, 2, 3, 4, 5] * 200)
    drawn = sampler()(users, 40)
    for user, row in zip(users.tolist(), drawn.tolist(), strict=True):
        assert not set(row) & MET[user] and not set(row) & {0, 6}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_was_met_is_never_drawn(data: st.DataObject) -> None:
    n_items = data.draw(st.integers(3, 12))
    degrees = [0] + data.draw(st.lists(st.integers(0, 10**6), min_size=n_items - 1, max_size=n_items - 1))
    degrees[1] = max(1, degrees[1])
    item = st.integers(1, n_items - 1)
    met = {user: data.draw(st.sets(item)) - {1} for user in range(1, 5)}
    met[1].add(n_items - 1) if n_items > 3 else None
    if not any(met.values()):
        return
    draw = sampler(0.75, np.array(degrees), met)
    users = torch.arange(1, 5).repeat(5)
    for user, row in zip(users.tolist(), draw(users, 30).tolist(), strict=True):
        assert all(degrees[j] > 0 and j not in met[user] for j in row)


def test_a_rare_item_beside_a_popular_one_can_still_be_drawn() -> None:
    degrees = np.array([0, 10**15, 1])
    draw = sampler(1.0, degrees, {1: {1}, 2: set()})
    assert draw.ends.tolist()[2] - draw.ends.tolist()[1] >= 1
    assert set(draw(torch.tensor([1]), 100)[0].tolist()) == {2}
    assert int(draw.ends[-1]) == pytest.approx(UNITS, rel=1e-6)


def test_a_user_who_met_everything_has_no_negative() -> None:
    draw = sampler(0.75, np.array([0, 1, 1]), {1: {1, 2}, 2: {1}})
    with pytest.raises(ValueError, match="user 1 met every item"):
        draw(torch.tensor([2, 1]), 3)
    assert draw(torch.tensor([2]), 3).tolist() == [[2, 2, 2]]


def test_without_degrees_nothing_can_be_drawn() -> None:
    with pytest.raises(ValueError, match="no item has a degree"):
        sampler(0.75, np.zeros(10, dtype=np.int64))


def test_draws_follow_the_seed() -> None:
    torch.manual_seed(5)
    first = sampler()(torch.tensor([1, 2]), 9)
    torch.manual_seed(5)
    assert torch.equal(first, sampler()(torch.tensor([1, 2]), 9))
