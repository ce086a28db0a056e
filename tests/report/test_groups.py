"""Groups and measures beside accuracy, against plain loops over users and items."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.report.groups import (
    activity_groups,
    beyond,
    gini,
    group_tables,
    popularity_groups,
    split_facts,
)
from recbole_llmgraph.report.versus import users_of
from recbole_llmgraph.store.facts import ItemFacts, SplitFacts, write_item_facts, write_split_facts
from recbole_llmgraph.store.runs import add_file

COUNTS = st.lists(st.integers(0, 12), min_size=1, max_size=60)


@settings(deadline=None)
@given(COUNTS)
def test_everybody_is_in_one_group_and_equals_stay_together(values: list[int]) -> None:
    counts = np.array(values)
    for groups in (activity_groups(counts), popularity_groups(counts)):
        assert (np.sum([group.members for group in groups], axis=0) == 1).all()
        for value in set(values):
            assert sum(bool(group.members[counts == value].any()) for group in groups) == 1
        assert len({group.name for group in groups}) == len(groups)
    lows = [counts[group.members].min() for group in activity_groups(counts)]
    assert lows == sorted(lows)


def test_groups_are_named_by_what_they_hold() -> None:
    trained = np.array([3] * 10 + [4] * 5 + [5, 6, 7, 8] * 3 + [20] * 2)
    names = {group.name: sorted(set(trained[group.members])) for group in activity_groups(trained)}
    assert names == {"cold: 3": [3], "4": [4], "5 to 7": [5, 6, 7], "8 or more": [8, 20]}
    assert activity_groups(np.array([], dtype=int)) == []
    items = {group.name: int(group.members.sum()) for group in popularity_groups(np.arange(101))}
    assert items == {"head": 20, "mid": 30, "tail": 50, "new": 1}


@given(st.lists(st.integers(0, 9), min_size=2, max_size=12).filter(any))
def test_gini_is_the_mean_difference_over_twice_the_mean(values: list[int]) -> None:
    n, total = len(values), sum(values)
    differences = sum(abs(a - b) for a, b in itertools.product(values, repeat=2)) / n**2
    assert gini(np.array(values)) == pytest.approx(differences / (2 * total / n))


@pytest.fixture
def told(store: Path, add, tmp_path: Path):
    """A store with the facts of a split of 200 users and 40 items; two models, one of two seeds."""
    rng = np.random.default_rng(5)
    users = pd.DataFrame({"trained": rng.integers(3, 12, 200), "target": rng.integers(0, 40, 200)})
    items = pd.DataFrame(
        {"trained": rng.permutation(40) * 3, "tested": np.bincount(users["target"], minlength=40)}
    )
    write_split_facts(store, "5f1e", SplitFacts(users, items))
    shown = {}
    for seed in (1, 2):
        folder = add("HeLLM", seed=seed, hit=0.5)
        counts = pd.DataFrame(
            {f"{n}@10|train": rng.integers(0, 9, 40) * (rng.random(40) < 0.5) for n in ("shown", "hits")}
        )
        path = tmp_path / f"{seed}" / "items.parquet"
        path.parent.mkdir()
        write_item_facts(path, ItemFacts(counts, {"TF-IDF": {"train": 0.1 * seed}}))
        add_file(folder, path)
        shown[seed] = counts
    add("SASRec", hit=0.2)
    return users, items, shown


def test_users_and_targets_are_grouped_by_the_split(told, boards) -> None:
    users, items, _ = told
    (board,) = boards()
    by_user, by_target = group_tables(board)
    assert [row["model"] for row in by_user.rows] == ["HeLLM", "SASRec"]
    values = users_of(board.rows["folders"][0], "train")["ndcg@10"].to_numpy()
    for (name, size), (mean, half) in zip(by_user.groups, by_user.values[0], strict=True):
        low, _, high = name.removeprefix("cold: ").partition(" to ")
        top = int(high) if high else 99 if "more" in low else int(low)
        own = [v for v, n in zip(values, users["trained"], strict=True) if int(low.split()[0]) <= n <= top]
        assert size == len(own) and mean == pytest.approx(np.mean(own))
        assert half == pytest.approx(1.98 * np.std(own, ddof=1) / len(own) ** 0.5, rel=0.04)
    popular = items["trained"][users["target"]].to_numpy()
    high, low = np.quantile(items["trained"][items["trained"] > 0], [0.8, 0.5], method="lower")
    kinds = ["head" if n > high else "mid" if n > low else "tail" if n else "new" for n in popular]
    for (name, size), (mean, _) in zip(by_target.groups, by_target.values[0], strict=True):
        own = [v for v, kind in zip(values, kinds, strict=True) if kind == name]
        assert size == len(own) and mean == pytest.approx(np.mean(own))


def test_lists_are_measured_beside_accuracy(told, boards) -> None:
    _, items, shown = told
    (board,) = boards()
    facts = split_facts(board)
    assert facts is not None
    rows = board.rows.to_dict("records")
    found = beyond(rows[0], board, facts)
    assert found is not None and beyond(rows[1], board, facts) is None
    total = (items["trained"] + 1).sum()
    coverage, novelty = [], []
    for counts in shown.values():
        times = counts["shown@10|train"]
        coverage.append(sum(n > 0 for n in times) / 40)
        bits = [n * -np.log2((t + 1) / total) for n, t in zip(times, items["trained"], strict=True)]
        novelty.append(sum(bits) / sum(times))
    assert found.coverage == pytest.approx(np.mean(coverage))
    assert found.novelty == pytest.approx(np.mean(novelty))
    assert found.diversity == {"TF-IDF": pytest.approx(0.15)}
    assert 0 < found.tail < 1 and 0 < found.gini < 1


def test_with_several_test_items_groups_count_hits(told, boards, store: Path) -> None:
    users, items, shown = told
    write_split_facts(store, "many", SplitFacts(users[["trained"]], items))
    (board,) = boards()
    _, by_item = group_tables(replace(board, split_fingerprint="many"))
    assert [row["model"] for row in by_item.rows] == ["HeLLM"] and by_item.metric == "recall@10"
    hits = np.mean([counts["hits@10|train"] for counts in shown.values()], axis=0)
    place = [name for name, _ in by_item.groups].index("tail")
    low = np.quantile(items["trained"][items["trained"] > 0], 0.5, method="lower")
    tail = (items["trained"] > 0) & (items["trained"] <= low)
    assert by_item.values[0][place][0] == pytest.approx(hits[tail].sum() / items["tested"][tail].sum())


def test_without_facts_or_with_facts_of_others_there_are_no_groups(add, boards, store: Path) -> None:
    add()
    (board,) = boards()
    assert group_tables(board) == []
    few = pd.DataFrame({"trained": [1]})
    write_split_facts(store, "5f1e", SplitFacts(few, few.assign(tested=1)))
    assert split_facts(board) is None
