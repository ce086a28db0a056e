"""Trials and sweeps as files: whole, shared where they may be, and the same bytes for the same sweep."""

from pathlib import Path
from typing import Any

import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.store.runs import run_folders
from recbole_llmgraph.store.sweeps import SWEEP, Sweep, read_sweep
from recbole_llmgraph.store.trials import Epoch, Journal, Trial, TrialStore


def trial(key: str = "a1", **changes: Any) -> Trial:
    facts: dict[str, Any] = {
        "key": key, "point": {"tau": 0.1}, "model": "Made", "dataset": "mini", "protocol": "seq",
        "preset": "quick", "seed": 1, "mask": "train", "metric": "ndcg@10", "status": "finished",
        "history": [Epoch(epoch=1, valid=0.2, seconds=1.5), Epoch(epoch=2, valid=0.1, seconds=1.0)],
        "valid": {"train": {"ndcg@10": 0.2, "recall@20": 0.4}, "none": {"ndcg@10": 0.15}},
        "epochs_planned": 2, "epochs_run": 2, "best_epoch": 1, "seconds": 2.5, "settings": {"tau": 0.1},
        "finished": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return Trial(**(facts | changes))


def sweep(*trials: Trial, **changes: Any) -> Sweep:
    facts: dict[str, Any] = {
        "name": "made", "purpose": "figure", "search": "grid", "model": "Made", "datasets": ["mini"],
        "seeds": [1], "panels": [["tau"]], "ticks": {"tau": [0.1, 0.2]}, "base": {"mini": {"tau": 0.2}},
        "metrics": ["recall@20"],
    }  # fmt: skip
    return Sweep(**(facts | changes), trials=list(trials))


def test_a_trial_comes_back_as_it_was(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    assert store.find("mini", "Made", "a1") is None
    store.write(trial())
    assert store.find("mini", "Made", "a1") == trial()
    store.forget("mini", "Made", "a1")
    assert store.find("mini", "Made", "a1") is None


@pytest.mark.parametrize("status", ["started", "pruned"])
def test_what_only_one_search_takes_for_an_end_is_not_shared(tmp_path: Path, status: str) -> None:
    with pytest.raises(ValueError, match=f"a {status} trial belongs into its sweep's journal"):
        TrialStore(tmp_path).write(trial(status=status))
    journal = Journal(tmp_path, "search")
    journal.write(trial(status=status))
    assert [found.status for found in journal] == [status]
    assert TrialStore(tmp_path).find("mini", "Made", "a1") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "a1"}', '{"status": "finished", "more": 1}'])
def test_a_broken_file_is_no_trial_and_is_run_again(tmp_path: Path, text: str) -> None:
    journal = Journal(tmp_path, "search")
    journal.write(trial())
    (journal.root / "b2.json").write_text(text)
    assert [found.key for found in journal] == ["a1"]
    assert journal.find("b2") is None


def test_the_score_is_the_kept_weights_under_the_selection_mask() -> None:
    assert trial().score == 0.2
    assert trial(mask="none").score == 0.15
    assert trial(valid={}, status="pruned").score is None
    assert trial(status="pruned").final and not trial(status="started").final


def test_trials_are_no_runs(tmp_path: Path) -> None:
    """Reports walk over a store three folders deep; what sweeps keep there must not look like a run."""
    TrialStore(tmp_path).write(trial())
    Journal(tmp_path, "search").write(trial())
    sweep(trial()).write(tmp_path / "sweeps" / "search" / "closed")
    assert list(run_folders(tmp_path)) == []


def test_equal_sweeps_are_equal_bytes_in_whatever_order_trials_came(tmp_path: Path) -> None:
    two = [trial("a1"), trial("b2", point={"tau": 0.2}), trial("c3", seed=2)]
    one = sweep(*two).write(tmp_path / "one").read_bytes()
    assert sweep(*reversed(two)).write(tmp_path / "two").read_bytes() == one
    assert read_sweep(tmp_path / "one").trials == [t.model_copy(update={"settings": {}}) for t in
                                                   (two[0], two[2], two[1])]  # fmt: skip


def test_a_folder_without_a_sweep_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no {SWEEP} here"):
        read_sweep(tmp_path)
    (tmp_path / SWEEP).write_text('{"name": "x"}')
    with pytest.raises(UserError, match="not a sweep"):
        read_sweep(tmp_path)


def test_the_frame_tells_every_trial_once() -> None:
    late = trial("b2", point={"tau": 0.2}, finished="2026-01-02T00:00:00+00:00")
    cut = trial("c3", point={"knn": 3}, valid={}, status="pruned", finished="2026-01-01T12:00:00+00:00")
    frame = sweep(late, cut, trial()).frame().set_index("key")
    assert frame["order"].to_dict() == {"a1": 1, "c3": 2, "b2": 3}
    assert frame["tau"].dropna().to_dict() == {"a1": 0.1, "b2": 0.2}
    assert frame.loc["a1", "recall@20"] == 0.4 and frame["recall@20"].isna()["c3"]
    assert frame["score"].to_dict() == {"a1": 0.2, "b2": 0.2, "c3": 0.2}  # a pruned one's best so far
