"""What LAGCL4Rec stands on: balanced samples, groups of four sources, a reranker from the hold-out."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.dataset import permute_targets, target_pairs
from recbole_llmgraph.oracle.opening import open_oracle
from recbole_llmgraph.oracle.questions import Item
from recbole_llmgraph.suite import groups as groups_module
from recbole_llmgraph.suite import run
from recbole_llmgraph.suite.augment import balanced, chosen_users
from recbole_llmgraph.suite.groups import ask_groups, groups_recipe, read_released, user_rows
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.leave import read_candidates, read_ratings
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


def lines_of(path: str) -> list[list[str]]:
    return [line.split("\t") for line in Path(path).read_text().splitlines()]


# -- data level ----------------------------------------------------------------------------


def test_cold_users_get_as_many_liked_as_disliked_unseen_candidates(workshop: Any) -> None:
    runner, cell = Runner(workshop.house), whole(workshop, groups="none", augment_k=3)
    given = runner.provide(cell)
    stage = runner.candidates(stage_of(cell, cell.needs[0]))
    offers = read_candidates(stage).set_index("user")["items"]
    ratings = read_ratings(stage)
    rated = set(zip(ratings["user"], ratings["item"], strict=True))
    counts = ratings.groupby("user").size()
    edges = pd.DataFrame(lines_of(given.paths["edges"]), columns=["user", "item", "value"])
    assert set(edges["user"]) <= set(counts[counts < counts.median()].index)
    assert edges["user"].nunique() > 10
    for user, part in edges.groupby("user"):
        liked, disliked = (set(part.loc[part["value"] == value, "item"]) for value in ("5", "1"))
        assert 1 <= len(liked) == len(disliked) <= 3 and not liked & disliked
        assert liked <= set(offers[user][:8]) and not disliked & set(offers[user][:8])
        assert not {(user, item) for item in liked | disliked} & rated
    assert "heuristic (not an LLM)" in given.notes[0] and "as many disliked" in given.notes[0]


def test_one_side_is_the_same_choice_cut(workshop: Any) -> None:
    found = {}
    for side in ("both", "positive", "negative"):
        given = Runner(workshop.house).provide(whole(workshop, groups="none", augment=side))
        found[side] = {tuple(line) for line in lines_of(given.paths["edges"])}
    assert found["positive"] == {line for line in found["both"] if line[2] == "5"}
    assert found["negative"] == {line for line in found["both"] if line[2] == "1"}


def test_liked_candidates_join_graph_and_rows_and_disliked_ones_do_not(workshop: Any) -> None:
    cell = workshop.provided(whole(workshop, groups="none"))
    liked = sum(line[2] == "5" for line in lines_of(cell.settings.edges))
    plain = workshop.split(whole(workshop, groups="none", augment="none"))
    assert liked and len(workshop.split(cell).dataset) == len(plain.dataset) + liked


def test_sides_are_cut_to_the_shorter_and_missing_answers_give_none() -> None:
    assert balanced({"items": ["a", "b", "c"]}, {"items": ["d"]}) == (["a"], ["d"])
    assert balanced(None, {"items": ["d"]}) == ([], [])
    ratings = pd.DataFrame({"user": list("aaabbc")})
    assert chosen_users(ratings, "cold") == ["c"] and chosen_users(ratings, "all") == ["a", "b", "c"]


# -- groups --------------------------------------------------------------------------------


def groups_of(workshop: Any, **changes: Any) -> tuple[dict[str, dict[str, str]], list[str]]:
    given = Runner(workshop.house).provide(whole(workshop, augment="none", **changes))
    found: dict[str, dict[str, str]] = {"item": {}, "user": {}}
    for side, name, group in lines_of(given.paths["groups_file"]):
        found[side][name] = group
    return found, given.notes


@pytest.mark.parametrize("source", ["kmeans", "oracle"])
def test_planted_clusters_are_found(source: str, workshop: Any) -> None:
    found, notes = groups_of(workshop, groups=source, n_item_groups=6, n_user_groups=6)
    assert len(found["item"]) == 48 and len(found["user"]) == 72
    for cluster in range(6):
        names = {found["item"][f"i{cluster * 8 + n}"] for n in range(1, 9)}
        assert len(names) == 1 or source == "oracle"
    homes = {user: (int(user[1:]) - 1) % 6 for user in found["user"]}
    together = np.mean(
        [found["user"][a] == found["user"][b] for a in homes for b in homes if homes[a] == homes[b]]
    )
    apart = np.mean(
        [found["user"][a] == found["user"][b] for a in homes for b in homes if homes[a] != homes[b]]
    )
    assert together > 2 * apart
    assert any("not an LLM" in note for note in notes)


def test_random_groups_change_with_the_seed_alone(workshop: Any) -> None:
    first, notes = groups_of(workshop, groups="random")
    assert groups_of(workshop, groups="random")[0] == first
    assert groups_of(workshop, groups="random", seed=2)[0] != first
    assert "control: groups at random" in notes[0]
    cell = whole(workshop, augment="none", groups="random")
    (need,) = cell.needs
    recipes = [groups_recipe(need, workshop.miniature.ready, one) for one in (cell, cell.selecting)]
    assert recipes[0] != recipes[1]  # drawn over whoever trains, so that who came first may not decide


def test_users_are_what_they_liked_less_half_of_what_they_disliked() -> None:
    class Rows:
        rows = np.eye(4)

    ratings = pd.DataFrame(
        {"user": list("aaabb"), "item": list("wxyzw"), "rating": [5.0, 4.0, 1.0, np.nan, np.nan]}
    )
    rows, users = user_rows(Rows(), list("wxyz"), ratings)  # type: ignore[arg-type]
    assert users == ["a", "b"]
    assert rows.tolist() == [[0.5, 0.5, -0.5, 0.0], [0.5, 0.0, 0.0, 0.5]]


def test_whom_no_group_takes_is_in_the_catch_all(tmp_path: Path) -> None:
    members = [Item(f"i{n}", word, (word,)) for n, word in enumerate(["horror", "comedy"] * 40)]
    oracle = open_oracle("heuristic", cache=tmp_path / "o.sqlite", items=members)
    found = ask_groups(oracle, members, 2, "item")
    assert len({found[f"i{n}"] for n in range(0, 80, 2)}) == 1 and len(set(found.values())) == 2
    asked = oracle.ask

    def forgetful(questions: Any) -> Any:
        answers = asked(questions)
        if questions and questions[0].task == "group_assign":
            for answer in answers:
                answer.parsed.pop("i0", None)
        return answers

    oracle.ask = forgetful  # type: ignore[method-assign]
    assert ask_groups(oracle, members, 2, "item")["i0"] == 2


def test_the_releases_own_look_up_never_finds_anything() -> None:
    """It keeps whole numbers and asks for text; read as whole numbers on both sides, everybody is found."""
    text = "1,49\n2,4\n10,7\n"
    release = {int(line.split(",")[0]): int(line.split(",")[1]) for line in text.split()}
    tokens = ["1", "2", "10"]
    assert [release.get(token) for token in tokens] == [None] * 3  # type: ignore[call-overload]
    assert [read_released(text)[token] for token in tokens] == [49, 4, 7]


def test_released_groups_are_replayed_and_dealt_out(
    workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release of the miniature's own, whose tokens are no numbers: read by position here."""
    from recbole_llmgraph.base.hashing import hash_file

    released = {}
    for side, of in (
        ("item", {f"i{n}": n % 5 for n in range(1, 49)}),
        ("user", {f"u{n}": n % 7 for n in range(1, 73)}),
    ):
        path = tmp_path / f"{side}_group.txt"
        path.write_text("".join(f"{name},{group}\n" for name, group in of.items()))
        released[side] = (path.name, hash_file(path))
    monkeypatch.setitem(groups_module.RELEASED, "mini", released)
    monkeypatch.setattr(
        groups_module,
        "read_released",
        lambda text: {a: int(b) for a, b in (x.split(",") for x in text.split())},
    )
    with pytest.raises(UserError, match="groups=replay: no released groups for mini"):
        groups_of(workshop, groups="replay")
    monkeypatch.setenv("RECBOLE_LLMGRAPH_SOURCES", str(tmp_path))
    found, notes = groups_of(workshop, groups="replay")
    assert found["item"]["i7"] == "2" and found["user"]["u9"] == "2"
    assert any("provenance unknown" in note for note in notes)
    dealt, notes = groups_of(workshop, groups="random")
    for side, of in found.items():
        assert dealt[side] != of and sorted(dealt[side].values()) == sorted(of.values())
    assert "released groups dealt out at random" in notes[0]
    (tmp_path / "item_group.txt").write_text("i1,1\n")
    with pytest.raises(UserError, match="is not the released file"):
        groups_module.released_groups(workshop.miniature.ready, tmp_path)


def test_the_real_release_finds_every_user_and_item() -> None:
    import os

    folder = next(
        (Path(p) for p in os.environ.get("RECBOLE_LLMGRAPH_SOURCES", "").split(os.pathsep) if p), None
    )
    if folder is None or not (folder / "ml-1m" / "user_group.txt.gz").is_file():
        pytest.skip("the released groups lie in no folder of $RECBOLE_LLMGRAPH_SOURCES")
    from types import SimpleNamespace

    from recbole_llmgraph.data.catalogue import dataset_card

    ready: Any = SimpleNamespace(card=dataset_card("ml-1m"))
    found = groups_module.released_groups(ready, folder)
    assert found and len(found["user"]) == 6040 and len(found["item"]) == 3952
    assert len(set(found["user"].values())) == 59 and len(set(found["item"].values())) == 42
    release = {int(name): group for name, group in found["user"].items()}
    assert not any(name in release for name in found["user"])


# -- rerank level --------------------------------------------------------------------------


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
    for mask in ("none", "train"):  # the same twenty items in another order
        assert (
            reranked.metrics["test"]["train"]["recall@20"] == plain.metrics["test"]["train"]["recall@20"]
        ), mask
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


# -- leaks and keys ------------------------------------------------------------------------


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


def test_what_decides_a_need_decides_the_key(workshop: Any) -> None:
    runner = Runner(workshop.house)
    base = runner.key(whole(workshop))
    for change in (
        {"augment_k": 2}, {"augment_users": "all"}, {"groups": "kmeans"}, {"groups": "none"},
        {"group_sides": "items"}, {"rerank": "oracle_listwise"}, {"backbone": "sgl"}, {"n_item_groups": 3},
    ):  # fmt: skip
        assert runner.key(whole(workshop, **change)) != base, change
    assert runner.key(whole(workshop, oracle_options={"max_cost": 3.0})) == base
    told = json.loads(json.dumps(whole(workshop).settings.model_dump()))
    assert told["edges"] == told["groups_file"] == told["reranker"] == ""


def test_a_dry_run_says_what_it_does_not_estimate(workshop: Any) -> None:
    from recbole_llmgraph.suite.asking import estimates

    options = {
        "oracle": "openai:gpt",
        "groups": "oracle",
        "oracle_options": {"base_url": "http://127.0.0.1:9"},
    }
    told = list(estimates(Runner(workshop.house), [whole(workshop, **options)]))
    assert told == ["LAGCL4Rec asks in turns, each about earlier answers: not estimated"]
    assert list(estimates(Runner(workshop.house), [whole(workshop)])) == []


def test_under_leave_one_out_it_runs_with_heuristic_groups(workshop: Any) -> None:
    cell = workshop.provided(workshop.cell("LAGCL4Rec", protocol="seq", augment="none", groups="kmeans"))
    assert [need.field for need in cell.needs] == ["groups_file"]
    named = {(side, name) for side, name, _ in lines_of(cell.settings.groups_file)}
    assert len(named) == 48 + 72
    trained = workshop.train(cell, workshop.root / "seq")
    losses = [entry["loss"] for entry in trained.progress.history]
    assert losses[-1] < losses[0]
    for name in ("beauty", "yelp"):
        settings = cell.settings.read(cell.model.preset_settings(name, "standard"))
        assert (settings.groups, settings.augment, settings.rerank) == ("kmeans", "none", "off")
