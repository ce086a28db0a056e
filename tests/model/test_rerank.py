"""The rerank level: mixing by hand, what stays untouched, and who may speak."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_llmgraph.model.rerank import (
    ASKING,
    PIECES,
    ClassifierReranker,
    OracleReranker,
    Texts,
    mixed,
    prompt_pieces,
    reordered,
)
from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.oracle.questions import Item


def test_softmax_rank_by_hand() -> None:
    scores = torch.tensor([5.0, 4.0, 3.0, 1.0], dtype=torch.double)
    opinions = torch.tensor([0.1, 0.9, 0.5, 0.7], dtype=torch.double)
    ranks = [0, 3, 1, 2]
    shares = [math.exp(2 * r) for r in ranks]
    expected = [
        0.7 * s + 0.3 * (1 + e / sum(shares) * 4) for s, e in zip(scores.tolist(), shares, strict=True)
    ]
    assert mixed(scores, opinions, 0.3, "softmax_rank").tolist() == pytest.approx(expected)
    top = torch.softmax(2.0 * torch.arange(19, -1, -1.0), 0)
    assert [round(float(share), 3) for share in top[:3]] == [0.865, 0.117, 0.016]  # one item is promoted


def test_zscore_keeps_the_range() -> None:
    scores = torch.tensor([5.0, 4.0, 3.0, 1.0], dtype=torch.double)
    opinions = torch.tensor([-1.0, 3.0, 0.0, 2.0], dtype=torch.double)
    z = [(v - v.mean()) / v.std(correction=0) for v in (scores, opinions)]
    blend = 0.4 * z[0] + 0.6 * z[1]
    expected = 1 + (blend - blend.min()) / (blend.max() - blend.min()) * 4
    torch.testing.assert_close(mixed(scores, opinions, 0.6, "zscore"), expected)
    same = torch.ones(4, dtype=torch.double)
    assert torch.equal(mixed(same, same, 0.3, "zscore"), same)


@given(
    st.integers(0, 10_000), st.sampled_from(["softmax_rank", "zscore"]), st.floats(0, 1), st.integers(1, 12)
)
def test_only_the_head_of_the_masked_ranking_changes_and_stays_above(
    seed: int, mix: str, weight: float, top: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, 10, generator=rng)
    masked = torch.rand(3, 10, generator=rng) < 0.4
    masked[2] = True  # nothing is left for this user
    told = torch.randn(3, 12, generator=rng).numpy()
    told[1, 0] = np.nan
    asked = []

    def opinions(items: Any, values: Any) -> Any:
        asked.append(items)
        return told[:, : items.shape[1]]

    new = reordered(scores, masked, top, opinions, weight, mix)
    for row in range(3):
        order = sorted((i for i in range(1, 10) if not masked[row, i]), key=lambda i: -float(scores[row, i]))
        head = order[:top]
        assert [i for i in asked[0][row].tolist() if i] == head
        rest = [i for i in range(10) if i not in head]
        assert torch.equal(new[row, rest], scores[row, rest])
        if head:
            low, high = float(scores[row, head].min()), float(scores[row, head].max())
            assert new[row, head].min() >= low - 1e-5 and new[row, head].max() <= high + 1e-5


def test_a_user_without_opinions_keeps_the_order() -> None:
    scores = torch.randn(2, 6)
    nothing = torch.zeros(2, 6, dtype=torch.bool)
    told = np.full((2, 5), np.nan)
    told[1, :5] = [1, 2, 3, 4, 5]
    new = reordered(scores, nothing, 5, lambda items, values: told, 0.3, "softmax_rank")
    assert torch.equal(new[0], scores[0]) and not torch.equal(new[1], scores[1])


def test_an_item_without_an_opinion_keeps_its_score() -> None:
    scores = torch.tensor([[0.0, 5.0, 4.0, 3.0, 1.0]]).double()
    told = np.array([[np.nan, 1.0, 3.0, 2.0]])
    new = reordered(scores, torch.zeros(1, 5, dtype=torch.bool), 4, lambda *_: told, 0.3, "softmax_rank")
    assert float(new[0, 1]) == 5
    expected = mixed(scores[0, 2:], torch.tensor(told[0, 1:]), 0.3, "softmax_rank")
    torch.testing.assert_close(new[0, 2:], expected)
    told[0, 1:3] = np.nan  # one opinion compares with nothing
    alone = reordered(scores, torch.zeros(1, 5, dtype=torch.bool), 4, lambda *_: told, 0.3, "softmax_rank")
    assert torch.equal(alone, scores)


def texts() -> Texts:
    items = {f"i{n}": Item(f"i{n}", f"film {n}", ("drama" if n % 2 else "comedy",)) for n in range(1, 9)}
    return Texts(items, {"u1": "likes drama"}, {"u1": ["i1", "i3"]}, {"u1": ["i2"]})


def test_texts_survive_their_file(tmp_path: Path) -> None:
    texts().save(tmp_path / "texts.json")
    assert Texts.load(tmp_path / "texts.json") == texts()


def test_disliked_candidates_follow_the_users_own() -> None:
    liked, disliked = texts().shown("u1", ["i4", "i2", "i6", "i8"])
    assert [item.id for item in liked] == ["i1", "i3"]
    assert [item.id for item in disliked] == ["i2", "i4", "i6"]


def test_a_prompt_never_shows_the_candidate_as_liked_or_disliked() -> None:
    pieces = prompt_pieces(texts(), "u1", "i3")
    assert pieces[-2] == "film 3. drama" and pieces.count("film 3. drama") == 1
    assert "film 1. drama" in pieces and "likes drama" in pieces
    shown = {"u": [f"i{n}" for n in range(1, 6)]}, {"u": ["i6", "i7", "i8"]}
    full = prompt_pieces(Texts(texts().items | {"i9": Item("i9", "film 9", ())}, {}, *shown), "u", "i9")
    assert len(full) == PIECES and full[-ASKING:] == ["Candidate:", "film 9", "Suits?"]
    stranger = prompt_pieces(texts(), "u9", "i3")
    assert stranger[1:] == ["User:", "", "Liked:", "Disliked:", "Candidate:", "film 3. drama", "Suits?"]


@pytest.mark.parametrize("listwise", [True, False])
def test_an_oracle_prefers_what_resembles_the_liked(listwise: bool, tmp_path: Path) -> None:
    asked = OracleReranker(
        "heuristic", texts(), listwise=listwise, cache=tmp_path / "oracle.sqlite", options=OracleOptions()
    )
    told = asked.opinions(["u1", "u9"], [["i4", "i5"], ["i7"]], np.array([[1.0, 1.0], [2.0, -np.inf]]))
    assert told[0, 1] > told[0, 0] and np.isnan(told[1, 1])
    assert np.isnan(told[1, 0]) == listwise  # one item alone is in order


class Counting:
    """A classifier that likes long prompts."""

    def ids(self, pieces: Any, kept: int) -> list[int]:
        return [0] * sum(map(len, pieces))

    def scores(self, prompts: Any) -> Any:
        return np.array([len(prompt) for prompt in prompts])


def test_a_classifiers_logits_come_back_in_place() -> None:
    asked = ClassifierReranker(Counting(), texts())  # type: ignore[arg-type]
    told = asked.opinions(["u1", "u1"], [["i4"], ["i5", "i6"]], np.zeros((2, 2)))
    assert np.isnan(told[0, 1]) and told[1, 1] == told[0, 0] == told[1, 0] + len("comedy") - len("drama")
