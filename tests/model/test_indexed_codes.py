"""How items are written: numbers by plain loops, pieces that say the number, clusters kept together."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.model.baseline.indexing import (
    hashed_order,
    item_numbers,
    number_codes,
    piece_texts,
    word_codes,
    word_pieces,
)


def tokens_of(split: Any) -> list[str]:
    return split.item_tokens()


def test_sequential_numbers_are_given_as_histories_are_read(workshop: Any) -> None:
    split = workshop.split(workshop.cell("SID"))
    found = dict(zip(tokens_of(split), item_numbers(split.dataset, "sequential", 1001).tolist(), strict=True))
    expected: dict[str, int] = {}
    parts = workshop.miniature.parts()
    for user in split.user_tokens()[1:]:
        for item in parts[user]["train"]:
            expected.setdefault(item, 1001 + len(expected))
    assert found.pop("[PAD]") == 0
    assert {item: found[item] for item in expected} == expected
    assert sorted(found.values()) == list(range(1001, 1001 + len(found)))


def test_items_without_training_come_last_and_tell_nothing(workshop: Any) -> None:
    split = workshop.split(workshop.cell("SID"))

    class Few:
        """The same items, of which training holds one user's history."""

        def __getattr__(self, name: str) -> Any:
            return getattr(split.dataset, name)

        @property
        def inter_feat(self) -> Any:
            inter = split.dataset.inter_feat
            return inter[inter["user_id"] == 5]

    numbers = item_numbers(Few(), "sequential", 1001)
    met = [
        split.dataset.token2id("item_id", i)
        for i in workshop.miniature.parts()[split.user_tokens()[5]]["train"]
    ]
    assert numbers[met].tolist() == list(range(1001, 1001 + len(met)))
    rest = [item for item in hashed_order(split.item_tokens()) if item not in met]
    assert numbers[rest].tolist() == list(range(1001 + len(met), 1001 + len(met) + len(rest)))


def test_random_numbers_follow_hashes(workshop: Any) -> None:
    dataset = workshop.split(workshop.cell("P5")).dataset
    one, other = (item_numbers(dataset, rule, 1) for rule in ("random", "sequential"))
    assert sorted(one) == sorted(other) and not np.array_equal(one, other)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=20, unique=True), st.sampled_from([1, 2, 3]))
def test_pieces_say_the_number(numbers: list[int], digits: int) -> None:
    codes, says = number_codes(np.array([0, *numbers]), digits), piece_texts(digits)
    assert (codes[0] == 0).all() and codes[1:].min() >= 1 and codes.max() <= len(says)
    assert [int("".join(says[piece - 1] for piece in code)) for code in codes[1:]] == numbers
    assert len({tuple(code) for code in codes.tolist()}) == len(codes)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=20, unique=True), st.sampled_from([1, 2, 3]))
def test_words_are_cut_from_the_left_and_ended(numbers: list[int], digits: int) -> None:
    codes, says = word_codes(np.array([0, *numbers]), digits), word_pieces(digits)
    assert (codes[0] == 0).all() and codes.max() == len(says) == len(set(says))
    for number, code in zip(numbers, codes[1:].tolist(), strict=True):
        *pieces, end = [says[piece - 1] for piece in code if piece]
        assert "".join(pieces) == str(number) and end == "</s>"
        assert all(len(piece) == digits for piece in pieces[:-1])


def test_items_met_together_share_the_beginning_of_their_clusters(workshop: Any) -> None:
    """The miniature's users stay in one of six groups of items, but for one step in eight."""
    split = workshop.split(workshop.cell("CID"))
    trained = workshop.reference("CID")
    codes = dict(zip(tokens_of(split), trained.model.codes.tolist(), strict=True))
    groups = [{codes[f"i{8 * group + place + 1}"][0] for place in range(8)} for group in range(6)]
    assert sum(len(group) for group in groups) <= 8  # six groups, hardly torn
    assert len(set.union(*groups)) == 6


def test_more_clusters_than_tokens_are_refused(workshop: Any) -> None:
    with pytest.raises(UserError, match="clusters=20 is more than the tokens there are, leaf=10"):
        workshop.cell("CID", clusters=20, leaf=10)
