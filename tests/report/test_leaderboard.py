"""Runs to tables: what shares a table, what shares a row, and the numbers in it."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.report.leaderboard import empty_leaderboard, leaderboards, seed_interval
from recbole_llmgraph.store.frame import runs_frame
from recbole_llmgraph.store.record import Code, Cost, Stage
from recbole_llmgraph.store.runs import read_run


def test_an_empty_frame_gives_no_tables():
    assert leaderboards(runs_frame([])) == []


def test_both_masks_have_a_table_and_the_one_that_selected_comes_first(add, store):
    from recbole_llmgraph.store.runs import read_stores

    add()
    add(dataset="yelp", mask="none")
    tables = leaderboards(runs_frame(read_stores([store]).runs))
    assert [(t.dataset, t.mask) for t in tables] == [
        ("beauty", "train"),
        ("beauty", "none"),
        ("yelp", "none"),
        ("yelp", "train"),
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "sports"},
        {"protocol": "rate"},
        {"preset": "quick"},
        {"split_fingerprint": "0ther"},
        {"candidates": 500},
        {"candidates": None},
    ],
    ids=lambda other: "-".join(other),
)
def test_rows_that_may_not_be_compared_never_share_a_table(add, boards, other):
    add()
    add("SASRec")
    add("LightGCN", **other)
    assert sorted(sorted(table.rows["model"]) for table in boards()) == [["HeLLM", "SASRec"], ["LightGCN"]]


def test_presets_stand_in_the_order_of_their_weight(add, boards):
    for preset in ("quick", "mine", "paper", "standard"):
        add(preset=preset)
    assert [table.preset for table in boards()] == ["standard", "paper", "quick", "mine"]


def test_a_row_says_what_the_run_said(add, boards):
    folder = add(
        backbone="builtin:llama-mini", text_encoder="minilm", notes=["provenance unknown"], variant="v"
    )
    record = read_run(folder)
    (table,) = boards()
    row = table.rows.iloc[0]
    assert {m: row[m] for m in ("recall@10", "ndcg@10", "recall@20", "ndcg@20")} == {
        m: v for m, v in record.metrics["test"]["train"].items()
    }
    assert (row["model"], row["variant"], row["backbone"], row["text_encoder"]) == (
        "HeLLM",
        "v",
        "builtin:llama-mini",
        "minilm",
    )
    assert (row["seeds"], row["keys"], row["folders"]) == ((1,), (record.key,), (str(folder),))
    assert (row["parameters_total"], row["parameters_trained"]) == (1_534_000, 200_000)
    assert (row["seconds_per_epoch"], row["seconds_total"], row["eval_users_per_second"]) == (
        35.25,
        702,
        2345.6,
    )
    assert (row["epochs_run"], row["best_epoch"], row["code"]) == (10, 7, "0.1.0 abcdef0")
    assert np.isnan(row["peak_memory_mb"]) and np.isnan(row["recall@10 ±"])
    assert (table.test_users, table.candidates, table.single_target) == (200, 12_101, True)


def test_seeds_share_a_row_with_mean_and_interval(add, boards):
    hits = [0.1, 0.2, 0.4]
    folders = [
        add(
            hit=hit,
            seed=seed,
            cost=Cost(seconds_total=60.0 * seed),
            code=Code(version="0.1.0", dirty=seed == 2),
        )
        for seed, hit in enumerate(hits, start=1)
    ]
    (table,) = boards()
    assert len(table.rows) == 1
    row = table.rows.iloc[0]
    values = [read_run(folder).metrics["test"]["train"]["ndcg@10"] for folder in folders]
    assert row["ndcg@10"] == pytest.approx(statistics.mean(values), abs=1e-15)
    # t quantile of two degrees of freedom from a printed table
    assert row["ndcg@10 ±"] == pytest.approx(4.302653 * statistics.stdev(values) / math.sqrt(3), rel=1e-6)
    assert row["seeds"] == (1, 2, 3) and row["seconds_total"] == 120 and row["code"] == "0.1.0, 0.1.0*"


@pytest.mark.parametrize(
    "other",
    [
        {"settings": {"tau": 0.4}},
        {"variant": "no_u2u"},
        {"backbone": "path:x"},
        {"text_encoder": "tfidf"},
        {"results_version": 2},
        {"budget": {"epochs": 3}},
        {"stages": [Stage(model="SASRec", key="5a5")]},
    ],
    ids=lambda other: "-".join(other),
)
def test_runs_of_other_settings_are_no_seeds_of_one_row(add, boards, other):
    add(seed=1)
    add(seed=2, **other)
    (table,) = boards()
    assert [row["seeds"] for _, row in table.rows.iterrows()] in ([(1,), (2,)], [(2,), (1,)])


def test_the_same_seed_twice_is_no_second_seed(add, boards):
    for key in ("aa", "bb"):
        add(seed=1, key=key)
    add(seed=2, key="cc")
    (table,) = boards()
    assert sorted(table.rows["keys"]) == [("aa",), ("bb",), ("cc",)]


def test_best_stands_first_and_ties_are_ordered_by_name(add, boards):
    for model, hit in (("Low", 0.1), ("High", 0.9), ("B", 0.0), ("A", 0.0)):
        add(model, hit=hit)
    (table,) = boards()
    assert list(table.rows["model"]) == ["High", "Low", "A", "B"]


def test_a_missing_metric_is_missing_not_zero_and_stands_last(add, boards):
    add("Odd", metrics={"test": {"train": {"recall@50": 0.5}}})
    add("Zero", hit=0.0)
    (table,) = boards()
    assert list(table.rows["model"]) == ["Zero", "Odd"] and np.isnan(table.rows["ndcg@10"].iloc[1])


def test_what_is_unknown_of_one_run_is_unknown_of_the_table(add, boards):
    add()
    add("Other", single_target=None)
    assert boards()[0].single_target is None


def test_missing_models_are_told_in_the_order_asked_for(add, boards):
    add("SASRec")
    add("Mine")
    (table,) = boards()
    assert table.missing(["HeLLM", "SASRec", "my.module:Mine", "Pop", "HeLLM"]) == ["HeLLM", "Pop"]
    assert empty_leaderboard("toys", "", "standard", "").missing(["HeLLM"]) == ["HeLLM"]
    here, elsewhere = f"Pop@{table.protocol}", "SiReN@elsewhere"
    assert table.missing([here, elsewhere, f"SASRec@{table.protocol}", "Pop"]) == ["Pop"]
    assert empty_leaderboard("toys", "", "standard", "").missing([elsewhere]) == ["SiReN"]


def test_seconds_of_an_epoch_are_those_of_the_log_where_there_is_one(add, boards):
    folder = add()
    (folder / "epochs.csv").write_text("phase,seconds\ntrain,3\ntrain,99\ntrain,5\n")
    assert boards()[0].rows["seconds_per_epoch"].tolist() == [5.0]


def test_the_order_of_runs_does_not_matter(add, store):
    from recbole_llmgraph.store.runs import read_stores

    for seed in (1, 2, 3):
        add("SASRec", seed=seed)
        add(seed=seed, settings={"tau": seed})
    runs = read_stores([store]).runs
    tables = [leaderboards(runs_frame(order)) for order in (runs, runs[::-1])]
    for a, b in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(a.rows, b.rows)


@settings(deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12))
def test_the_interval_equals_scipys(values):
    from scipy import stats

    scale = statistics.stdev(values) / math.sqrt(len(values))
    low, high = stats.t.interval(0.95, len(values) - 1, loc=0, scale=scale) if scale else (0.0, 0.0)
    assert seed_interval(values) == pytest.approx((high - low) / 2, abs=1e-12)


@pytest.mark.parametrize("values", [[], [0.3], [0.3, float("nan")]])
def test_fewer_than_two_seeds_have_no_interval(values):
    assert math.isnan(seed_interval(values))


def test_a_rated_table_shows_the_cut_offs_that_were_published(store):
    from recbole_llmgraph.store.per_user import PerUser
    from recbole_llmgraph.store.record import RunRecord
    from recbole_llmgraph.store.runs import RunStore, read_stores

    names = [f"{kind}@{k}" for kind in ("recall", "ndcg", "precision") for k in (5, 10, 15, 20)]
    rng = np.random.default_rng(1)
    for protocol in ("rate", "rate@2", "sign"):
        users = PerUser.from_frame(pd.DataFrame({f"{name}|train": rng.random(30) for name in names}))
        facts = {
            "key": protocol.replace("@", ""), "model": "LLMPNGNN", "dataset": "ml-1m", "protocol": protocol,
            "preset": "standard", "seed": 1, "settings": {}, "results_version": 1, "candidates": 3706,
            "split_fingerprint": protocol, "single_target": False, "mask": "train",
            "metrics": {"test": users.means()}, "code": Code(version="0.1.0"),
        }  # fmt: skip
        RunStore(store).write(RunRecord(**facts), users)
    boards = {board.protocol: board for board in leaderboards(runs_frame(read_stores([store]).runs))}
    published = [f"{kind}@{k}" for k in (5, 10, 15, 20) for kind in ("precision", "recall")]
    for protocol in ("rate", "rate@2"):
        assert list(boards[protocol].metrics) == [*published, "ndcg@10"]
        assert boards[protocol].rows[published].notna().all(axis=None)
    assert "recall@15" not in boards["sign"].metrics and "precision@10" in boards["sign"].metrics
