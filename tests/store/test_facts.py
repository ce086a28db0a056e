"""Facts of splits and runs: they come back as they were, or count as absent."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.store.facts import (
    ItemFacts,
    SplitFacts,
    read_item_facts,
    read_split_facts,
    small,
    write_item_facts,
    write_split_facts,
)
from recbole_llmgraph.store.runs import RunStore, add_file, publish, read_run, read_stores

USERS = pd.DataFrame({"trained": [3, 4, 300], "target": [1, 0, 1]})
ITEMS = pd.DataFrame({"trained": [9, 0], "tested": [1, 2]})


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**40), max_size=20))
def test_counts_keep_their_value_in_any_size(values: list[int]) -> None:
    found = small(np.array(values, dtype=np.int64))
    assert found.tolist() == values and (not values or found.dtype.kind == "u")


def test_facts_of_a_split_come_back_and_stay(tmp_path: Path) -> None:
    write_split_facts(tmp_path, "f1", SplitFacts(USERS, ITEMS))
    write_split_facts(tmp_path, "f1", SplitFacts(USERS * 2, ITEMS))
    found = read_split_facts([tmp_path / "none", tmp_path], "f1")
    assert found is not None
    pd.testing.assert_frame_equal(found.users, USERS, check_dtype=False)
    pd.testing.assert_frame_equal(found.items, ITEMS, check_dtype=False)
    assert read_split_facts([tmp_path], "f2") is None
    assert read_stores([tmp_path]).runs == [] and read_stores([tmp_path]).problems == []


@pytest.mark.parametrize("name", ["users.parquet", "items.parquet"])
@pytest.mark.parametrize("how", ["cut", "gone", "other"])
def test_facts_that_are_not_whole_are_absent(tmp_path: Path, name: str, how: str) -> None:
    path = write_split_facts(tmp_path, "f1", SplitFacts(USERS, ITEMS)) / name
    match how:
        case "cut":
            path.write_bytes(path.read_bytes()[:-9])
        case "gone":
            path.unlink()
        case _:
            pd.DataFrame({"trained": [1]}).to_parquet(path)
    assert read_split_facts([tmp_path], "f1") is None


def test_targets_outside_the_items_are_refused(tmp_path: Path) -> None:
    write_split_facts(tmp_path, "f1", SplitFacts(USERS.assign(target=[1, 0, 2]), ITEMS))
    assert read_split_facts([tmp_path], "f1") is None


def test_what_a_run_recommended_comes_back(tmp_path: Path) -> None:
    facts = ItemFacts(pd.DataFrame({"shown@10|train": [70_000, 0]}), {"TF-IDF": {"train": 0.5}})
    write_item_facts(tmp_path / "items.parquet", facts)
    found = read_item_facts(tmp_path)
    assert found is not None and found.diversity == facts.diversity
    pd.testing.assert_frame_equal(found.counts, facts.counts, check_dtype=False)
    (tmp_path / "items.parquet").write_bytes(b"PAR1")
    assert read_item_facts(tmp_path) is None and read_item_facts(tmp_path / "none") is None


def test_facts_travel_with_published_runs_and_late_ones_are_sealed(tmp_path: Path, make_run) -> None:
    record, users = make_run()
    store = RunStore(tmp_path / "runs")
    topk = pd.DataFrame({"user": ["u"], "items|train": ["i"]})
    folder = store.write(record, users, topk)
    write_split_facts(store.root, record.split_fingerprint, SplitFacts(USERS, ITEMS))
    made = tmp_path / "items.parquet"
    write_item_facts(made, ItemFacts(pd.DataFrame({"shown@10|train": [1]})))
    add_file(folder, made)
    again = read_run(folder)
    assert set(again.files) == {"per_user.parquet", "topk.parquet", "items.parquet"}
    assert again.model_copy(update={"files": {}, "test_users": None}) == record
    target = publish(folder, tmp_path / "reports")
    assert sorted(path.name for path in target.iterdir()) == ["items.parquet", "per_user.parquet", "run.json"]
    assert read_split_facts([tmp_path / "reports"], record.split_fingerprint) is not None
    assert [run.record.key for run in read_stores([tmp_path / "reports"]).runs] == [record.key]
    (target / "items.parquet").write_bytes(b"changed")
    assert "items.parquet was changed" in read_stores([tmp_path / "reports"]).problems[0].why
