"""The heuristic against its formula in plain loops."""

import math
import statistics
from pathlib import Path

import numpy as np
import pytest

from recbole_llmgraph.oracle.opening import open_oracle
from recbole_llmgraph.oracle.preference import preference
from recbole_llmgraph.oracle.questions import Item, Question, edge_pair
from recbole_llmgraph.oracle.vectors import ItemVectors


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
