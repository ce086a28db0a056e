"""Cells under `rate`: select without the hold-out, end on everything; an oracle's edges and controls."""

import json
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.dataset import load_split, target_pairs
from recbole_llmgraph.store.per_user import PerUser
from recbole_llmgraph.suite.cell import choose_protocol
from recbole_llmgraph.suite.edges import OFFERED, SHOWN, catalogue, control_answers, edge_questions
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.leave import read_candidates, read_ratings
from recbole_llmgraph.suite.provide import stage_of, with_paths
from recbole_llmgraph.suite.run import Runner, make_model
from recbole_llmgraph.train.trainer import Trainer


def whole(workshop: Any, model: str, **changes: Any) -> Any:
    return workshop.cell(model, protocol="rate", held_out=False, **changes)


@pytest.fixture(scope="module")
def home(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> House:
    """A store that this file's tests fill together."""
    root = tmp_path_factory.mktemp("rated") / "runs"
    return House(store=root, data=workshop.miniature.data, source=workshop.miniature.source)


def log_of(home: House, record: Any) -> pd.DataFrame:
    return pd.read_csv(home.runs.folder(record.dataset, record.model, record.key) / "epochs.csv")


# -- selection -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def selected(home: House, workshop: Any) -> Any:
    return Runner(home).run(whole(workshop, "LightGCN", learning_rate=0.04, epochs=5))


def test_the_hold_out_selects_and_everything_is_trained_for_as_long(
    selected: Any, home: House, workshop: Any, tmp_path: Path
) -> None:
    log = log_of(home, selected)
    select, train = (log[log["phase"] == phase] for phase in ("select train", "train"))
    assert list(select["epoch"]) == [1, 2, 3, 4, 5] and select["valid"].notna().all()
    best = int(select["epoch"].iloc[select["valid"].argmax()])
    assert 1 < best < 5  # the rate is too high on purpose
    assert list(train["epoch"]) == list(range(1, best + 1)) and train["valid"].isna().all()
    assert (selected.best_epoch, selected.epochs_run) == (best, best)
    assert selected.metrics["valid"]["train"]["ndcg@10"] == pytest.approx(select["valid"].max())
    # the same by hand: all ratings, so many epochs, then the test part
    cell = whole(workshop, "LightGCN", learning_rate=0.04, epochs=best, eval_step=0)
    split = workshop.split(cell)
    trained = workshop.fit(cell, split, make_model(cell, split), tmp_path)
    assert trained.judge(trained.model, "test").metrics == selected.metrics["test"]


def test_schedules_keep_the_course_that_was_planned(workshop: Any, tmp_path: Path) -> None:
    """Three of ten epochs, chosen by selection, are the first three of ten, not a course of three."""
    cell = whole(workshop, "BPR", epochs=10, schedule="cosine", warmup_fraction=0.1)
    split = workshop.split(cell)

    class EnoughError(Exception):
        """Three epochs are over."""

    def stop(entry: dict[str, Any]) -> None:
        if entry["epoch"] == 3:
            raise EnoughError

    def weights(folder: Path, settings: Any, **more: Any) -> list[Any]:
        model = make_model(cell, split)
        trainer = Trainer(model, split, settings, folder=folder, seed=1, validate=lambda m: 0.0, **more)
        with suppress(EnoughError):
            trainer.fit()
        return [p.detach().clone() for p in model.parameters()]

    unvalidated = cell.settings.model_copy(update={"eval_step": 0})
    ends = (
        weights(tmp_path / "until", cell.settings, until=3),
        weights(tmp_path / "cut", unvalidated, on_epoch=stop),
    )
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_without_validation_the_last_epoch_of_all_ratings_stands(home: House, workshop: Any) -> None:
    record = Runner(home).run(whole(workshop, "BPR", eval_step=0))
    assert set(record.metrics) == {"test"}
    assert set(log_of(home, record)["phase"]) == {"train"}
    assert (record.best_epoch, record.epochs_run) == (4, 4)


def test_what_is_made_between_selecting_and_the_end_is_not_in_a_rows_time(
    workshop: Any, home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, late = time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + late[0])

    class Slow(Runner):
        """Whose stages take a day."""

        def provide(self, cell: Any) -> Any:
            late[0] += 86_400
            return super().provide(cell)

    cell = workshop.cell("LightGCN", protocol="rate", held_out=False)
    record = Slow(replace(home, store=tmp_path / "slow")).run(cell)
    assert late[0] == 2 * 86_400 and record.cost.seconds_total < 86_400


def test_metrics_of_the_protocol_are_recorded(selected: Any, home: House) -> None:
    kinds, cutoffs = ("recall", "ndcg", "precision"), (5, 10, 15, 20)
    names = {f"{kind}@{k}" for kind in kinds for k in cutoffs}
    folder = home.runs.folder(selected.dataset, selected.model, selected.key)
    for mask in ("none", "train"):
        assert set(selected.metrics["test"][mask]) == names
        per_user = PerUser.read(folder / "per_user.parquet").to_frame()
        for name in names:
            told = selected.metrics["test"][mask][name]
            assert per_user[f"{name}|{mask}"].mean() == pytest.approx(told, abs=1e-6)


def test_precision_and_recall_by_hand(selected: Any, home: House, workshop: Any) -> None:
    split = workshop.split(whole(workshop, "LightGCN"))
    users, tokens = split.dataset.field2id_token["user_id"], split.item_tokens()
    relevant: dict[str, set[str]] = {}
    for user, item in zip(*target_pairs(split.test), strict=True):
        relevant.setdefault(str(users[user]), set()).add(tokens[item])
    top = pd.read_parquet(home.runs.folder("mini", "LightGCN", selected.key) / "topk.parquet")
    assert set(top["user"]) == set(relevant)
    for k in (5, 15):
        hits = [
            len(set(row.split()[:k]) & relevant[u])
            for u, row in zip(top["user"], top["items|train"], strict=True)
        ]
        sizes = [len(relevant[user]) for user in top["user"]]
        found = selected.metrics["test"]["train"]
        assert found[f"precision@{k}"] == pytest.approx(np.mean(hits) / k)
        assert found[f"recall@{k}"] == pytest.approx(np.mean(np.divide(hits, sizes)))


def test_a_killed_selection_goes_on_and_ends_alike(selected: Any, workshop: Any, tmp_path: Path) -> None:
    cell = whole(workshop, "LightGCN", learning_rate=0.04, epochs=5)
    again = House(store=tmp_path / "runs", data=workshop.miniature.data, source=workshop.miniature.source)
    for stop_after in (2, 4 + 2):  # in the selection; then in its last four and two on everything

        def kill(entry: dict[str, Any], told: list[int] = [], last: int = stop_after) -> None:  # noqa: B006
            told.append(1)
            if len(told) == last:
                raise KeyboardInterrupt

        runner = Runner(again, on_epoch=kill)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setenv("RECBOLE_LLMGRAPH_CHECKPOINT_SECONDS", "0")
            runner.run(cell)
    ended = Runner(again).run(cell)
    assert ended.metrics == selected.metrics and ended.key == selected.key
    assert not list((again.store / "work").rglob("*.pt"))


def test_fit_is_what_selects_and_opens_no_test_part(workshop: Any, home: House, monkeypatch: Any) -> None:
    runner, cell = Runner(home), whole(workshop, "BPR", seed=3)
    fitted = runner.fit(cell, runner.key(cell))
    assert (workshop.split(cell.selecting).training_matrix != fitted.split.training_matrix).nnz == 0
    assert runner.key(cell.selecting) != runner.key(cell)
    assert fitted.valid.metrics["train"]["ndcg@10"] == pytest.approx(fitted.progress.best_score)


def test_another_draw_is_another_table(workshop: Any, home: House) -> None:
    one, other = (
        Runner(home).run(workshop.cell("Pop", protocol=name, held_out=False)) for name in ("rate", "rate@2")
    )
    assert one.split_fingerprint != other.split_fingerprint and one.metrics != other.metrics
    assert (one.protocol, other.protocol) == ("rate", "rate@2")
    with pytest.raises(UserError, match="no protocol 'rate@x'"):
        choose_protocol([whole(workshop, "Pop").model], workshop.miniature.card, "rate@x")


def test_a_metric_that_is_not_measured_is_refused(workshop: Any) -> None:
    assert whole(workshop, "BPR", valid_metric="precision@15").settings.valid_metric == "precision@15"
    with pytest.raises(UserError, match=r"BPR.valid_metric=precision@5: protocol seq measures recall@5"):
        workshop.cell("BPR", valid_metric="precision@5")


# -- an oracle's edges ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def augmented(home: House, workshop: Any) -> Any:
    return Runner(home).run(whole(workshop, "LLMPNGNN", eval_step=0))


def edges_folder(home: House, workshop: Any, **changes: Any) -> Path:
    """Folder of a cell's edges, made now where it is missing."""
    given = Runner(home).provide(whole(workshop, "LLMPNGNN", **{"eval_step": 0, **changes}))
    return Path(given.paths["edges"]).parent


def test_a_row_says_who_picked_the_edges(augmented: Any, home: House) -> None:
    notes = " ".join(augmented.notes)
    assert "72 liked and as many disliked edges for 72 users by heuristic (not an LLM), 100.0%" in notes
    assert [stage.model for stage in augmented.stages] == ["LightGCN"]
    assert home.find("mini", "LightGCN", augmented.stages[0].key) is not None
    assert "edges" not in augmented.settings and augmented.settings["oracle"] == "heuristic"


def test_edges_join_candidates_that_nobody_rated(augmented: Any, home: House, workshop: Any) -> None:
    folder = edges_folder(home, workshop)
    runner, cell = Runner(home), whole(workshop, "LLMPNGNN", eval_step=0)
    stage = runner.candidates(stage_of(cell, cell.needs[0]))
    found = read_candidates(stage)
    offers = dict(zip(found["user"], found["items"], strict=True))
    rated = set(zip(read_ratings(stage)["user"], read_ratings(stage)["item"], strict=True))
    lines = [line.split("\t") for line in (folder / "edges.tsv").read_text().splitlines()]
    assert len(lines) == 2 * 72 and sorted({value for _, _, value in lines}) == ["1", "5"]
    for user, item, _ in lines:
        assert item in list(offers[user])[:OFFERED] and (user, item) not in rated
    split = workshop.split(with_paths(cell, runner.provide(cell)))
    plain = workshop.split(whole(workshop, "LLMPNGNN", oracle="off"))
    assert len(split.dataset) == len(plain.dataset) + 2 * 72


def test_candidates_are_the_stages_best_unseen(
    home: House, workshop: Any, augmented: Any, tmp_path: Path
) -> None:
    cell = whole(workshop, "LightGCN")
    folder = Runner(home).candidates(cell)
    offers, ratings = read_candidates(folder), read_ratings(folder)
    split = workshop.split(cell)
    assert len(ratings) == len(split.seen_pairs[0]) and len(offers) == 72
    met = ratings.groupby("user")["item"].agg(set)
    for user, items, scores in zip(offers["user"], offers["items"], offers["scores"], strict=True):
        assert set(items) == set(split.item_tokens()[1:]) - met[user]  # 48 items: all that are left
        assert list(scores) == sorted(scores, reverse=True)


def test_questions_show_training_ratings_alone(home: House, workshop: Any, augmented: Any) -> None:
    folder = Runner(home).candidates(whole(workshop, "LightGCN"))
    offers, ratings = read_candidates(folder), read_ratings(folder)
    items = catalogue(workshop.miniature.ready)
    questions = edge_questions(offers, ratings, items, seed=1)
    known = {(u, i): r for u, i, r in ratings.itertuples(index=False)}
    for question in questions:
        history = question.parts["history"]
        assert 0 < len(history) <= SHOWN and len(question.offered) == OFFERED
        assert all(known[question.about, item.id] == item.rating for item in history)
        assert [item.rating for item in history] == sorted((item.rating for item in history), reverse=True)
        assert not {item.id for item in history} & set(question.offered)
    again, other = (edge_questions(offers, ratings, items, seed=seed) for seed in (1, 2))
    assert again == questions
    assert items["i1"].title == "nail polish number 0" and items["i1"].details == ("polish",)
    assert len(other) == len(questions)


@pytest.mark.parametrize("kind", ["random", "popularity", "random-candidates", "popularity-candidates"])
def test_controls_pick_as_many_edges_and_are_no_llm(
    kind: str, home: House, workshop: Any, augmented: Any
) -> None:
    folder = edges_folder(home, workshop, oracle=kind)
    told = json.loads((folder / "summary.json").read_text())
    assert told["liked"] == 72 and told["label"] == f"control {kind} (not an LLM)"
    stage = Runner(home).candidates(whole(workshop, "LightGCN"))
    offers, ratings = read_candidates(stage), read_ratings(stage)
    met = ratings.groupby("user")["item"].agg(set)
    counts = ratings["item"].value_counts()
    everything = sorted(catalogue(workshop.miniature.ready))
    picked = pd.read_parquet(folder / "answers.parquet")
    top = dict(zip(offers["user"], offers["items"], strict=True))
    for user, favourite, least in picked[["user", "favourite", "least"]].itertuples(index=False):
        pool = (
            sorted(list(top[user])[:OFFERED])
            if "candidates" in kind
            else [i for i in everything if i not in met[user]]
        )
        assert favourite in pool and least in pool and favourite != least
        if kind.startswith("popularity"):
            order = sorted(pool, key=lambda item: -counts.get(item, 0))  # stable: by token
            assert (favourite, least) == (order[0], order[-1])
    if kind.startswith("random"):
        drawn = control_answers(kind, offers, ratings, everything, seed=1)
        assert drawn.equals(picked)
        assert not control_answers(kind, offers, ratings, everything, seed=2).equals(picked)


def test_a_fraction_of_the_users_is_asked(home: House, workshop: Any, augmented: Any) -> None:
    told = json.loads((edges_folder(home, workshop, edge_fraction=0.25) / "summary.json").read_text())
    assert told["asked"] == told["liked"] == 18


def test_light_gcn_takes_the_favourites_only(home: House, workshop: Any, augmented: Any) -> None:
    cell = whole(workshop, "LightGCN", oracle="heuristic", oracle_options={"concurrency": 2})
    runner = Runner(home)
    stage = stage_of(cell, cell.needs[0])
    assert stage == replace(whole(workshop, "LightGCN"), overrides=stage.overrides)
    assert stage.settings.oracle == "off" and runner.key(stage) == augmented.stages[0].key
    split, plain = workshop.split(with_paths(cell, runner.provide(cell))), workshop.split(stage)
    assert len(split.dataset) == len(plain.dataset) + 72
    # options that decide no answer decide no key
    others = [
        whole(workshop, "LightGCN", oracle="heuristic", oracle_options=o) for o in ({}, {"max_cost": 3.0})
    ]
    assert {runner.key(cell)} == {runner.key(other) for other in others}


def test_the_hold_out_never_reaches_candidates_or_edges(workshop: Any, home: House, augmented: Any) -> None:
    """Selecting with edges stands on a stage that is trained without the hold-out, too."""
    cell = whole(workshop, "LLMPNGNN")
    held, runner = cell.selecting, Runner(home)
    stage = stage_of(held, held.needs[0])
    assert stage.held_out and runner.key(stage) != runner.key(stage_of(cell, cell.needs[0]))
    ratings = read_ratings(runner.candidates(stage))
    split = workshop.split(stage)
    names, tokens = split.dataset.field2id_token["user_id"], split.item_tokens()
    rated = set(zip(ratings["user"], ratings["item"], strict=True))
    held_rows = {(str(names[u]), tokens[i]) for u, i in zip(*target_pairs(split.valid), strict=True)}
    assert held_rows and not rated & held_rows
    assert len(ratings) == len(split.seen_pairs[0])


def test_test_ratings_change_no_candidate_and_no_edge(
    workshop: Any, home: House, augmented: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole road with other test targets: stage, candidates, questions, edges, weights."""
    from recbole_llmgraph.host.dataset import permute_targets
    from recbole_llmgraph.suite import run

    other = House(store=tmp_path / "runs", data=workshop.miniature.data, source=workshop.miniature.source)
    monkeypatch.setattr(
        run, "load_split", lambda config: load_split(config, permute_targets(1, 3, redraw=True))
    )
    cell = whole(workshop, "LLMPNGNN", eval_step=0)
    again = Runner(other).run(cell)
    assert again.metrics["test"] != augmented.metrics["test"]  # the other targets reached the judge
    for kind, name in (
        ("oracle_edges", "edges.tsv"),
        ("candidates", "ratings.parquet"),
        ("item_table", "table.safetensors"),
    ):
        mine, theirs = (
            sorted(file.read_bytes() for file in house.store.glob(f"artifacts/{kind}/*/{name}"))
            for house in (home, other)
        )
        assert set(theirs) <= set(mine)
    weights = [
        house.runs.folder("mini", "LLMPNGNN", augmented.key) / "weights.safetensors"
        for house in (home, other)
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert again.key == augmented.key


def test_edges_need_a_protocol_with_ratings(workshop: Any) -> None:
    with pytest.raises(UserError, match=r"LightGCN.oracle=heuristic: .*which protocol seq has not"):
        workshop.cell("LightGCN", oracle="heuristic")
    with pytest.raises(UserError, match=r"LLMPNGNN\.edges: the suite provides this file"):
        whole(workshop, "LLMPNGNN", edges="mine.tsv")
