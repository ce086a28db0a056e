"""Which rows a comparison means, and whose users it pairs."""

import numpy as np
import pandas as pd
import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.report.versus import common_seeds, compare_rows, find_row, paired_page, users_of
from recbole_llmgraph.store.facts import SplitFacts, write_split_facts
from recbole_llmgraph.store.per_user import PerUser


def test_rows_are_named_by_model_variant_or_key(add, boards):
    add(key="aabbccdd0011")
    add(key="ffee00112233", variant="no_u2u", settings={"x": 1})
    (board,) = boards()
    keys = [row[0] for row in board.rows["keys"]]
    assert keys[find_row(board, "HeLLM")] == keys[find_row(board, "aabbcc")] == "aabbccdd0011"
    assert keys[find_row(board, "HeLLM:no_u2u")] == keys[find_row(board, "ffee0011")] == "ffee00112233"
    assert keys[find_row(board, "HeLLM (no_u2u)")] == "ffee00112233"
    assert find_row(board, "SASRec") is None and find_row(board, "aabb") is None


def test_a_name_of_two_rows_is_an_error_that_names_both(add, boards):
    add(key="aabbccdd0011")
    add(key="ffee00112233", settings={"x": 1})
    with pytest.raises(
        UserError, match=r"--paired HeLLM: 2 rows in beauty, seq.*name one by the start of its key"
    ):
        find_row(boards()[0], "HeLLM")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["HeLLM"], "two different names"),
        (["HeLLM", "HeLLM"], "two different names"),
        (["HeLLM", "Nobody"], "no row 'Nobody'. Known: HeLLM, SASRec"),
    ],
)
def test_names_that_cannot_be_compared_are_errors(add, boards, names, told):
    add()
    add("SASRec")
    with pytest.raises(UserError, match=told):
        compare_rows(boards(), names, 99)


def test_rows_of_two_splits_are_never_compared(add, boards):
    add()
    add("SASRec", split_fingerprint="0ther")
    with pytest.raises(UserError, match="no table holds two of these"):
        compare_rows(boards(), ["HeLLM", "SASRec"], 99)


def test_a_comparison_tells_the_means_of_the_table(add, boards):
    add(hit=0.5)
    add("SASRec", hit=0.3)
    (board,) = boards()
    (pair,) = compare_rows([board], ["HeLLM", "SASRec"], 99)
    rows = board.rows.set_index("model")
    found = pair.result.set_index("metric")
    assert list(found.index) == ["recall@10", "ndcg@10", "recall@20", "ndcg@20"]
    for metric in found.index:
        assert found.loc[metric, "mean_a"] == pytest.approx(rows.loc["HeLLM", metric], abs=1e-12)
        assert found.loc[metric, "mean_b"] == pytest.approx(rows.loc["SASRec", metric], abs=1e-12)


def test_users_are_means_over_seeds_under_one_mask(add):
    folders = [add(seed=seed) for seed in (1, 2)]
    frames = [PerUser.read(folder / "per_user.parquet").to_frame() for folder in folders]
    found = users_of([str(folder) for folder in folders], "none")
    expected = (frames[0]["ndcg@10|none"] + frames[1]["ndcg@10|none"]) / 2
    pd.testing.assert_series_equal(found["ndcg@10"], expected, check_names=False)
    assert not np.array_equal(found["ndcg@10"], users_of([str(f) for f in folders], "train")["ndcg@10"])


@pytest.mark.parametrize(
    ("a", "b", "chosen"),
    [
        ((1, 2, 3), (2, 3, 4), ([2, 3], [2, 3])),
        ((1,), (1, 2, 3), ([1], [1])),
        ((7,), (1, 2, 3), ([7], [1])),
        ((5, 4), (1, 2, 3), ([4, 5], [1, 2])),
    ],
)
def test_both_sides_average_over_equally_many_seeds(a, b, chosen):
    assert common_seeds(a, b) == chosen


def test_a_page_of_variants_has_a_name_that_reads(add, boards):
    add("A", hit=0.2)
    add("A", hit=0.5, variant="head=tied epochs=5")
    name = paired_page(compare_rows(boards(), ["A", "A (head=tied epochs=5)"], 199)).name
    assert name == "paired-beauty-A-A_head_tied_epochs_5.md"


def test_several_names_are_compared_each_with_each_and_adjusted_together(add, boards):
    for model, hit in (("A", 0.2), ("B", 0.35), ("C", 0.5)):
        add(model, hit=hit)
    pairs = compare_rows(boards(), ["C", "A", "B"], 199)
    assert [pair.names for pair in pairs] == [("C", "A"), ("C", "B"), ("A", "B")]
    page = paired_page(pairs)
    assert page.name == "paired-beauty-C-A-B.md"
    lines = [
        line for line in page.text.splitlines() if line.startswith("| ndcg") or line.startswith("| recall")
    ]
    assert len(lines) == 12
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    raw, adjusted = ([float(row[place].replace("&lt;", "")) for row in cells] for place in (5, 6))
    assert all(h >= p for p, h in zip(raw, adjusted, strict=True)) and adjusted != raw
    assert min(adjusted) == pytest.approx(min(raw) * 12, abs=1e-3)


def test_one_row_against_all_others(add, boards):
    for model in ("A", "B", "C"):
        add(model, hit=0.3)
    pairs = compare_rows(boards(), ["B", "all"], 99)
    assert sorted(pair.names for pair in pairs) == [("B", "A"), ("B", "C")]
    with pytest.raises(UserError, match="no row 'D'"):
        compare_rows(boards(), ["D", "all"], 99)


def test_users_with_few_and_with_many_interactions_are_compared_apart(add, boards, store):
    trained = np.random.default_rng(3).integers(2, 30, 200)
    facts = pd.DataFrame({"trained": trained})
    write_split_facts(store, "5f1e", SplitFacts(facts, pd.DataFrame({"trained": [1, 2], "tested": [1, 1]})))
    add("A", hit=0.2)
    add("B", hit=0.6)
    (pair,) = compare_rows(boards(), ["A", "B"], 99)
    rows = boards()[0].rows.set_index("model")["folders"]
    values = {name: users_of(rows[name], "train")["ndcg@10"] for name in "AB"}
    cold = trained <= np.quantile(trained, 0.25, method="lower")
    first = pair.groups.iloc[0]
    assert first["users"] == cold.sum() and pair.groups["users"].sum() == 200
    assert first["mean_a"] == pytest.approx(values["A"][cold].mean())
    assert first["difference"] == pytest.approx((values["A"] - values["B"])[cold].mean())
    assert first["low"] < first["difference"] < first["high"]
    text = paired_page([pair]).text
    assert f"| cold: 2 to {trained[cold].max()} " in text and "not adjusted" in text


def test_without_facts_of_the_split_nobody_is_grouped(add, boards, store):
    add("A", hit=0.2)
    add("B", hit=0.6)
    assert compare_rows(boards(), ["A", "B"], 99)[0].groups.empty
    few = pd.DataFrame({"trained": [3, 4]})  # of another number of users
    write_split_facts(store, "5f1e", SplitFacts(few, few.assign(tested=1)))
    (pair,) = compare_rows(boards(), ["A", "B"], 99)
    assert pair.groups.empty and "activity" not in paired_page([pair]).text


def test_the_page_says_split_users_seeds_and_mask(add, boards):
    add(hit=0.5)
    add("SASRec", seed=3)
    text = paired_page(compare_rows(boards("none"), ["HeLLM", "SASRec"], 99)).text
    assert "## beauty, mask none: HeLLM against SASRec" in text
    assert "split `5f1e`, 200 users; seeds 1 against 3" in text and "also those the user met" in text
    assert text == paired_page(compare_rows(boards("none"), ["HeLLM", "SASRec"], 99)).text
