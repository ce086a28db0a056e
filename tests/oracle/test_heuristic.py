"""The heuristic against its formula in plain loops."""

import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_llmgraph.oracle.grouping import group_count, k_means
from recbole_llmgraph.oracle.metadata import detail_shares, highest_lift
from recbole_llmgraph.oracle.opening import open_oracle
from recbole_llmgraph.oracle.oracle import Oracle
from recbole_llmgraph.oracle.preference import preference
from recbole_llmgraph.oracle.questions import (
    Item,
    Question,
    edge_pair,
    group_assign,
    group_merge,
    group_propose,
    item_profile,
    neg_gen,
    pos_gen,
    rerank_list,
    rerank_point,
    user_profile,
)
from recbole_llmgraph.oracle.vectors import ItemVectors, tfidf


def slow_preference(question: Question, rows: dict[str, list[float]]) -> list[float]:
    def cosine(a: list[float], b: list[float]) -> float:
        length = math.hypot(*a) * math.hypot(*b)
        return sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0

    def mean(names: tuple[str, ...]) -> list[float]:
        units = [[x / math.hypot(*rows[n]) for x in rows[n]] for n in names]
        return [sum(column) / len(units) for column in zip(*units, strict=True)] if units else [0.0] * 5

    liked, disliked = mean(question.liked), mean(question.disliked)
    spread = statistics.pstdev(question.scores) if question.scores else 0.0
    values = []
    for place, name in enumerate(question.offered):
        z = (question.scores[place] - statistics.mean(question.scores)) / spread if spread else 0.0
        values.append(cosine(rows[name], liked) - 0.5 * cosine(rows[name], disliked) + 0.5 * z)
    return values


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("scored", [False, True])
def test_preference_is_the_formula(seed: int, scored: bool) -> None:
    rng = np.random.default_rng(seed)
    names = [f"i{k}" for k in range(30)]
    table = rng.normal(size=(30, 5))
    history = [Item(n, n, rating=float(rng.integers(1, 6))) for n in names[:12]]
    scores = rng.normal(size=10).tolist() if scored else ()
    question = edge_pair(history, [Item(n, n) for n in names[12:22]], scores=scores)
    found = preference(question, ItemVectors(names, table, "given"))
    wanted = slow_preference(question, dict(zip(names, table.tolist(), strict=True)))
    assert np.allclose(found, wanted, atol=1e-6)


def test_the_pair_follows_taste(films: list[Item], pair_question, tmp_path: Path) -> None:
    oracle = open_oracle("heuristic", cache=tmp_path / "oracle.sqlite", items=films)
    answers = oracle.ask([pair_question(user) for user in range(40)])
    for user, answer in enumerate(answers):
        assert answer.status == "ok"
        assert int(answer.parsed["favourite"]) % 4 == user % 4
        assert int(answer.parsed["least"]) % 4 == (user + 1) % 4
        assert answer.provenance.label == "heuristic (not an LLM)"
        assert not answer.provenance.is_llm
    assert not (tmp_path / "oracle.sqlite").exists()


def test_identity_names_vectors_and_template(films: list[Item], tmp_path: Path) -> None:
    def identity(items: list[Item]) -> str:
        return open_oracle("heuristic", cache=tmp_path / "c", items=items).identity("edge_pair")

    assert identity(films) == identity(list(films))
    assert identity(films) != identity(films[:-1])
    assert identity(films).startswith("heuristic.v1:tfidf-svd128:")
    assert identity(films).endswith("/edge_pair.v1")


def test_of_equal_candidates_the_first_is_favourite_and_the_last_least(tmp_path: Path) -> None:
    items = [Item(n, "") for n in "abc"]
    oracle = open_oracle("heuristic", cache=tmp_path / "c", items=items)
    (answer,) = oracle.ask([edge_pair([], items)])
    assert answer.parsed == {"favourite": "a", "least": "c"}


def one(oracle: Oracle, question: Question) -> Any:
    (answer,) = oracle.ask([question])
    assert answer.status == "ok", answer.reason
    return answer.parsed


@pytest.fixture
def oracle(films: list[Item], tmp_path: Path) -> Oracle:
    return open_oracle("heuristic", cache=tmp_path / "c", items=films)


def by_genre(films: list[Item], genre: int, start: int, count: int) -> list[Item]:
    return [films[4 * k + genre] for k in range(start, start + count)]


def test_positives_and_negatives_are_the_ends_of_the_preference(oracle, films) -> None:
    liked, disliked = by_genre(films, 1, 0, 4), by_genre(films, 3, 0, 4)
    candidates = [films[k] for k in range(60, 76)]
    value = preference(pos_gen("", candidates, 1, liked=liked, disliked=disliked), oracle.backend.vectors)
    ranked = [candidates[k] for k in sorted(range(16), key=lambda k: -value[k])]
    positive = one(oracle, pos_gen("x", candidates, 5, liked=liked, disliked=disliked))["items"]
    negative = one(oracle, neg_gen("x", candidates, 5, liked=liked, disliked=disliked))["items"]
    assert positive == [film.id for film in ranked[:5]]
    assert negative == [film.id for film in ranked[:-6:-1]]
    assert {int(name) % 4 for name in positive[:4]} == {1}
    assert {int(name) % 4 for name in negative[:4]} == {3}


def test_reranking_is_by_preference(oracle, films) -> None:
    liked, disliked = by_genre(films, 0, 0, 3), by_genre(films, 2, 0, 3)
    candidates = [*by_genre(films, 2, 20, 2), *by_genre(films, 1, 20, 2), *by_genre(films, 0, 20, 2)]
    order = one(oracle, rerank_list("x", candidates, liked=liked, disliked=disliked))["order"]
    assert [int(name) % 4 for name in order] == [0, 0, 1, 1, 2, 2]
    scores = [0.0] * 5 + [50.0]
    first = one(oracle, rerank_list("x", candidates, liked=liked, scores=scores))["order"][0]
    assert first == candidates[-1].id
    for candidate, yes in ((candidates[-1], True), (candidates[0], False)):
        answer = one(oracle, rerank_point("x", candidate, liked=liked, disliked=disliked))
        question = rerank_point("x", candidate, liked=liked, disliked=disliked)
        value = preference(question, oracle.backend.vectors)[0]
        assert answer["yes"] is yes
        assert answer["score"] == pytest.approx(1 / (1 + math.exp(-value)), abs=1e-6)


def test_highest_lift_against_counts_by_hand() -> None:
    shelf = [Item(str(k), "", ("common", "rare") if k % 10 == 0 else ("common",)) for k in range(100)]
    shares = detail_shares(shelf)
    assert shares == {"common": 1.0, "rare": 0.1}
    # 3 of 5 liked are rare: lift .6/.1 = 6 against 1/1
    liked = [shelf[0], shelf[10], shelf[20], shelf[1], shelf[2]]
    assert highest_lift(liked, shares) == ["rare", "common"]
    # a detail on one of twenty is left out, however high its lift
    assert highest_lift([shelf[0], *shelf[1:10], *shelf[11:20], shelf[21]], shares) == ["common"]
    assert highest_lift([], shares) == []


def test_profiles_name_what_is_over_represented(oracle, films) -> None:
    liked, disliked = by_genre(films, 1, 0, 5), by_genre(films, 3, 0, 5)
    said = one(oracle, user_profile(liked, disliked))
    assert said["summarization"] == "Likes war; avoids horror."
    assert one(oracle, item_profile(films[0]))["summarization"].endswith(": comedy")
    assert one(oracle, item_profile(Item("x", "")))["summarization"] == "item x"
    assert one(oracle, user_profile([Item("x", "")]))["summarization"] == "Liked 1 items."


def test_groups_are_found_named_merged_and_assigned(oracle, films) -> None:
    members = [*by_genre(films, 0, 0, 8), *by_genre(films, 1, 0, 8), *by_genre(films, 2, 0, 8)]
    groups = one(oracle, group_propose(members, 3))["groups"]
    assert [{int(name) % 4 for name in group["members"]} for group in groups] == [{0}, {1}, {2}]
    assert groups == one(oracle, group_propose(members, 3))["groups"]
    words = {"funny", "clown", "laughing", "joke", "comedy"}
    assert set(groups[0]["characteristics"]) <= words
    lines = [Item(f"g{k}", group["name"], tuple(group["characteristics"])) for k, group in enumerate(groups)]
    assigned = one(oracle, group_assign(by_genre(films, 2, 30, 3), lines))
    assert set(assigned.values()) == {"g2"}
    twins = [lines[0], Item("g9", "other", lines[0].details), lines[1]]
    merged = one(oracle, group_merge(twins, 2))
    assert merged["g0"] == merged["g9"] != merged["g1"]


def test_members_without_vectors_are_grouped_by_their_words(oracle) -> None:
    people = [Item(f"u{k}", ("likes war and battle", "likes love and kiss")[k % 2]) for k in range(6)]
    groups = one(oracle, group_propose(people, 2))["groups"]
    assert [set(group["members"]) for group in groups] == [{"u0", "u2", "u4"}, {"u1", "u3", "u5"}]
    silent = [Item(f"u{k}", "") for k in range(4)]
    assert len(one(oracle, group_propose(silent, 2))["groups"]) == 1


def test_number_of_groups() -> None:
    assert [group_count(n) for n in (1, 4, 50, 6040, 3883)] == [1, 2, 7, 78, 62]


def test_k_means_numbers_groups_by_first_appearance() -> None:
    rows = np.array([[5.0, 0], [0, 5], [5, 0.1], [0, 5.1], [9, 9]])
    assert k_means(rows, 3).tolist() == [0, 1, 0, 1, 2]
    assert k_means(rows[:1], 3).tolist() == [0]


def test_given_vectors_may_be_any(tmp_path: Path) -> None:
    vectors = ItemVectors(["a", "b", "h"], np.array([[1.0, 0], [0, 1], [1, 0.1]]), "made")
    oracle = open_oracle("heuristic", cache=tmp_path / "c", vectors=vectors)
    question = edge_pair([Item("h", "")], [Item("a", ""), Item("b", "")])
    assert one(oracle, question) == {"favourite": "a", "least": "b"}
    assert oracle.identity("edge_pair").startswith("heuristic.v1:made:")
    with pytest.raises(ValueError, match="needs the dataset's items"):
        open_oracle("heuristic", cache=tmp_path / "c")
    with pytest.raises(ValueError, match="distinct ids"):
        ItemVectors(["a", "a"], np.eye(2), "made")


def test_tfidf_is_what_scikit_learn_makes_of_it() -> None:
    """Cosines of the reduced rows against plain TF-IDF by hand, where the width keeps everything."""
    texts = ["red red blue", "blue green", "green green yellow"]
    rows = ItemVectors(list("abc"), tfidf(texts), "x").rows
    frequency = {"red": 1, "blue": 2, "green": 2, "yellow": 1}

    def weight(text: str, word: str) -> float:
        count = text.split().count(word)
        return (1 + math.log(count)) * (math.log(4 / (1 + frequency[word])) + 1) if count else 0.0

    weights = np.array([[weight(text, word) for word in frequency] for text in texts])
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    assert np.allclose(rows @ rows.T, weights @ weights.T, atol=1e-9)
    assert not tfidf(["", "  "]).any()
