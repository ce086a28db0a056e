"""Negatives by group: always right where right is possible, uniform, never met."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_llmgraph.graph.group_negatives import GroupNegatives

DRAWS = 400


@st.composite
def worlds(draw):
    n_users, n_items = draw(st.integers(2, 5)), draw(st.integers(3, 9))
    groups = draw(st.lists(st.integers(0, 3), min_size=n_items, max_size=n_items))
    pairs = draw(
        st.sets(st.tuples(st.integers(1, n_users - 1), st.integers(1, n_items - 1)), max_size=3 * n_items)
    )
    full = {u for u in range(1, n_users) if sum(a == u for a, _ in pairs) == n_items - 1}
    return n_users, groups, sorted(p for p in pairs if p[0] not in full)


def made(n_users, groups, pairs, **more):
    users, items = (torch.tensor([pair[side] for pair in pairs], dtype=torch.long) for side in (0, 1))
    return GroupNegatives(torch.tensor(groups), users, items, n_users, **more)


@given(worlds())
def test_draws_are_unseen_and_of_the_right_group_whenever_there_is_one(world):
    n_users, groups, pairs = world
    sampler = made(*world)
    users = torch.arange(1, n_users).repeat_interleave(60)
    for group in sorted(set(groups)):
        of = torch.full_like(users, group)
        drawn = {"inside": sampler.inside(users, of), "outside": sampler.outside(users, of)}
        for kind, items in drawn.items():
            for user, item in zip(users.tolist(), items.tolist(), strict=True):
                unseen = [i for i in range(1, len(groups)) if (user, i) not in pairs]
                fits = [i for i in unseen if (groups[i] == group) == (kind == "inside")]
                assert item in (fits or unseen)


@pytest.mark.parametrize("kind", ["uniform", "inside", "outside"])
def test_every_candidate_is_as_likely_as_any_other(kind):
    groups = [0, 0, 1, 1, 1, 0, 2, 1]
    pairs = [(1, 2), (1, 5), (2, 1), (2, 7), (2, 6)]
    sampler = made(3, groups, pairs)
    torch.manual_seed(0)
    for user in (1, 2):
        unseen = [i for i in range(1, 8) if (user, i) not in pairs]
        users = torch.full((DRAWS * 10,), user)
        of = torch.ones_like(users)
        drawn = sampler.uniform(users) if kind == "uniform" else getattr(sampler, kind)(users, of)
        fits = [i for i in unseen if kind == "uniform" or (groups[i] == 1) == (kind == "inside")]
        counts = Counter(drawn.tolist())
        assert sorted(counts) == fits
        expected = len(users) / len(fits)
        assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())


def test_ten_tries_of_the_release_miss_what_is_there():
    """A group with one unseen item of 2,000: rejection takes anything, here the item is found."""
    groups = torch.zeros(2001, dtype=torch.long)
    groups[7] = 1
    sampler = GroupNegatives(groups, torch.tensor([1]), torch.tensor([3]), 2)
    users = torch.ones(50, dtype=torch.long)
    assert sampler.inside(users, users).unique().tolist() == [7]


def test_items_that_may_not_be_drawn_are_not():
    allowed = torch.tensor([True, True, False, True, False])
    sampler = made(2, [0, 0, 0, 1, 1], [(1, 1)], allowed=allowed)
    users = torch.ones(40, dtype=torch.long)
    assert sampler.uniform(users).unique().tolist() == [3]


def test_a_user_who_met_everything_is_named():
    sampler = made(3, [0, 0, 0], [(2, 1), (2, 2), (1, 1)])
    with pytest.raises(ValueError, match="user 2 met every item"):
        sampler.uniform(torch.tensor([1, 2]))
