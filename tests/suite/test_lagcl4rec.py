"""What LAGCL4Rec stands on: balanced samples, groups of four sources, a reranker from the hold-out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.oracle.opening import open_oracle
from recbole_llmgraph.oracle.questions import Item
from recbole_llmgraph.suite import groups as groups_module
from recbole_llmgraph.suite.augment import balanced, chosen_users
from recbole_llmgraph.suite.groups import ask_groups, groups_recipe, read_released, user_rows
from recbole_llmgraph.suite.leave import read_candidates, read_ratings
from recbole_llmgraph.suite.provide import stage_of
from recbole_llmgraph.suite.run import Runner


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


# -- keys ---------------------------------------------------------------------------------


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
