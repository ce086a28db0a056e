"""LAGCL4Rec's rerank level in the suite, and leaks: whose labels and training, what a store brings back."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_llmgraph.host.dataset import permute_targets, target_pairs
from recbole_llmgraph.suite import run
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.provide import stage_of
from recbole_llmgraph.suite.rerank import training_rows
from recbole_llmgraph.suite.run import Runner

MINI = {
    "backbone": "builtin:llama-mini",
    "rows": 60,
    "learning_rate": 1e-3,
    "epochs": 1,
    "batch": 32,
    "piece": 8,
}
CLASSIFIER = {
    "rerank": "classifier",
    "rerank_top": 6,
    "rerank_dtype": "fp32",
    **{f"rerank_{k}": v for k, v in MINI.items()},
}


def whole(workshop: Any, **changes: Any) -> Any:
    return workshop.cell("LAGCL4Rec", held_out=False, **changes)


def test_labels_are_the_hold_outs_and_negatives_unseen_candidates(workshop: Any) -> None:
    offers = pd.DataFrame({"user": ["u1", "u2", "u3"], "items": [["a", "b", "c"], ["a", "d"], ["e", "f"]]})
    targets = pd.DataFrame({"user": ["u1", "u1", "u3"], "item": ["b", "z", "e"]})
    plan = {"positives": 10, "candidates": 3, "rows": 0}
    rows = training_rows(offers, targets, plan, seed=1)
    assert {row for row in rows if row[2]} == {("u1", "b", 1), ("u1", "z", 1), ("u3", "e", 1)}
    assert {row for row in rows if not row[2]} <= {("u1", "a", 0), ("u1", "c", 0), ("u3", "f", 0)}
    assert sum(row[0] == "u1" for row in rows) == 3 and not any(row[0] == "u2" for row in rows)
    assert len(training_rows(offers, targets, {**plan, "rows": 2}, seed=1)) == 2
    assert training_rows(offers, targets, plan, seed=1) == rows


@pytest.fixture(scope="module")
def classified(workshop: Any) -> Any:
    """A run with the classifier, and the same without."""
    runner = Runner(workshop.house)
    base = {"augment": "none", "groups": "none"}
    return runner, runner.run(whole(workshop, **base, **CLASSIFIER)), runner.run(whole(workshop, **base))


def test_the_classifier_speaks_on_the_test_part_alone(classified: Any, workshop: Any) -> None:
    _, reranked, plain = classified
    assert reranked.metrics["valid"] == plain.metrics["valid"]
    assert reranked.best_epoch == plain.best_epoch
    assert reranked.metrics["test"] != plain.metrics["test"]
    recalls = [record.metrics["test"]["train"]["recall@20"] for record in (reranked, plain)]
    assert recalls[0] == recalls[1]  # the same items in another order
    assert any("trained on 60 candidates of the hold-out" in note for note in reranked.notes)
    assert (reranked.backbone, plain.backbone) == (CLASSIFIER["rerank_backbone"], None)


def test_one_training_serves_runs_that_differ_in_the_rerank_level_alone(
    classified: Any, workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, reranked, plain = classified
    base = {"augment": "none", "groups": "none"}
    cell = whole(workshop, **base, **CLASSIFIER)
    other = cell.trained_as
    assert other.trained_as is other and other == whole(workshop, **base, rerank="off").trained_as
    epochs: list[Any] = []
    counting = Runner(workshop.house, on_epoch=epochs.append)
    zscore = counting.run(whole(workshop, **base, **CLASSIFIER, rerank_mix="zscore"))
    assert not epochs and zscore.stages[-1].key == reranked.stages[-1].key == plain.key
    assert zscore.key != reranked.key and zscore.metrics["test"] != reranked.metrics["test"]
    assert zscore.cost.seconds_total > plain.cost.seconds_total
    folders = [workshop.house.runs.folder("mini", "LAGCL4Rec", run.key) for run in (plain, zscore)]
    logs = [(folder / "epochs.csv").read_text() for folder in folders]
    assert logs[0] == logs[1]
    monkeypatch.delattr(cell.model_class, "trained_as")  # trained on its own
    alone = Runner(replace(workshop.house, store=tmp_path), on_epoch=epochs.append).run(cell)
    assert epochs and alone.key == reranked.key and alone.metrics == reranked.metrics
    assert alone.backbone == reranked.backbone


def test_disliked_candidates_train_nothing_without_a_term_of_their_own(
    workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = {"positive": "both", "negative": "none"}
    cells = {side: whole(workshop, groups="none", augment=side) for side in (*sides, *sides.values())}
    for side, same in sides.items():
        assert cells[side].trained_as.settings == cells[same].settings
    told = whole(workshop, groups="none", augment="negative", explicit_negative_weight=0.5)
    assert told.trained_as is told
    shared = {side: Runner(workshop.house).run(cells[side]) for side in sides}
    monkeypatch.delattr(cells["both"].model_class, "trained_as")
    runner = Runner(replace(workshop.house, store=tmp_path))
    for side, same in sides.items():
        alone = runner.run(cells[side])
        assert alone.key == shared[side].key and alone.metrics == shared[side].metrics
        assert shared[side].stages[-1].key == runner.key(cells[same])


def test_a_restored_model_reranks_as_it_was_judged(classified: Any, workshop: Any) -> None:
    from recbole_llmgraph.host.evaluation import Judge
    from recbole_llmgraph.suite.restore import restored

    runner, reranked, _ = classified
    model, split = restored(runner, whole(workshop, augment="none", groups="none", **CLASSIFIER))
    again = Judge(split)(model, "test")
    assert again.metrics["train"] == pytest.approx(reranked.metrics["test"]["train"])
    loader = split.test
    found = loader.collate_fn(np.arange(loader.sample_size))[0]
    with torch.no_grad():
        scores = model.full_sort_predict(found).view(len(found), -1)
        found.update(type(found)({"item_id": scores[:, 1:].argmax(1) + 1}))
        torch.testing.assert_close(model.predict(found), scores[:, 1:].max(1).values)
        twice = found[torch.arange(len(found)).repeat(2)]  # rows may name a user again
        torch.testing.assert_close(model.predict(twice), scores[:, 1:].max(1).values.repeat(2))


def test_training_without_a_hold_out_never_meets_its_ratings(classified: Any, workshop: Any) -> None:
    """The classifier's own texts and candidates come from the part that its stage was trained on."""
    runner, cell = classified[0], whole(workshop, augment="none", groups="none", **CLASSIFIER)
    need = next(need for need in cell.needs if need.field == "reranker")
    stage = stage_of(cell, need)
    assert stage.held_out
    split = workshop.split(stage)
    names, tokens = split.user_tokens(), split.item_tokens()
    held = {(names[u], tokens[i]) for u, i in zip(*target_pairs(split.valid), strict=True)}
    rows = runner.training_rows(cell.selecting)
    assert not held & set(zip(rows["user"], rows["item"], strict=True))
    targets = runner.hold_out_rows(cell.selecting)
    assert set(zip(targets["user"], targets["item"], strict=True)) == held


# -- leaks ---------------------------------------------------------------------------------


def test_test_ratings_change_no_sample_no_group_no_reranker_and_no_weight(
    workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole road with other test targets; the reranker reads the hold-out by design."""
    stores, original = [], run.load_split
    for name, hook in (("plain", None), ("permuted", permute_targets(1, 3, redraw=True))):
        monkeypatch.setattr(run, "load_split", partial(original, before_build=hook))
        house = House(store=tmp_path / name, data=workshop.miniature.data, source=workshop.miniature.source)
        record = Runner(house).run(whole(workshop, eval_step=0, epochs=2, **CLASSIFIER))
        stores.append((house, record))
    (one, first), (other, second) = stores
    assert first.key == second.key and first.metrics["test"] != second.metrics["test"]
    for kind, file in (
        ("augmentation", "edges.tsv"), ("groups", "groups.tsv"), ("rerank_texts", "texts.json"),
        ("reranker", "reranker.safetensors"), ("candidates", "items.parquet"),
    ):  # fmt: skip
        mine, theirs = (
            sorted((p.parent.name, p.read_bytes()) for p in h.store.glob(f"artifacts/{kind}/*/{file}"))
            for h in (one, other)
        )
        assert mine and mine == theirs, kind
    weights = [
        (h.runs.folder("mini", "LAGCL4Rec", first.key) / "weights.safetensors").read_bytes()
        for h in (one, other)
    ]
    assert weights[0] == weights[1]


#: What learns from the hold-out by design.
EXEMPT = {"reranker"}


@pytest.mark.parametrize("groups", ["oracle", "kmeans"])
def test_while_it_is_held_out_the_hold_out_changes_the_reranker_alone(
    groups: str, workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edges, groups, texts and candidates of the selecting phase, with other ratings held out and tested."""
    houses, original = [], run.load_split
    for name, hook in (("plain", None), ("permuted", permute_targets(2, 3, redraw=True))):
        monkeypatch.setattr(run, "load_split", partial(original, before_build=hook))
        house = House(store=tmp_path / name, data=workshop.miniature.data, source=workshop.miniature.source)
        Runner(house).provide(whole(workshop, eval_step=0, groups=groups, **CLASSIFIER).selecting)
        houses.append(house)
    files = {
        "augmentation": "edges.tsv", "groups": "groups.tsv", "rerank_texts": "texts.json",
        "candidates": "items.parquet", "reranker": "reranker.safetensors",
    }  # fmt: skip
    changed = set()
    for kind, file in files.items():
        mine, theirs = (
            sorted((p.parent.name, p.read_bytes()) for p in house.store.glob(f"artifacts/{kind}/*/{file}"))
            for house in houses
        )
        assert mine and [name for name, _ in mine] == [name for name, _ in theirs]
        changed |= {kind} if mine != theirs else set()
    assert changed == EXEMPT
