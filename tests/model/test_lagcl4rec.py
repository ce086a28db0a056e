"""LAGCL4Rec's rank level beside loops, its groups, and what its switches take away."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.model.grouping import read_groups
from recbole_llmgraph.model.lagcl4rec import LAGCL4Rec, LAGCL4RecSettings
from recbole_llmgraph.suite.run import make_model

BARE = {"groups": "none", "augment": "none"}


def clusters(workshop: Any, path: Path) -> str:
    """A file that puts items and users into the planted clusters, but for three items it leaves out."""
    split = workshop.split(workshop.cell("LAGCL4Rec", **BARE))
    lines = [f"item\t{i}\t{(int(i[1:]) - 1) // 8 + 1}" for i in split.item_tokens()[1:] if int(i[1:]) > 3]
    lines += [f"user\t{u}\t{(int(u[1:]) - 1) % 6 + 1}" for u in split.user_tokens()[1:]]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def made(workshop: Any, tmp_path: Path) -> Any:
    """Function: settings -> split and untrained model with planted groups."""

    def make(**changes: Any) -> tuple[Any, Any]:
        cell = workshop.cell("LAGCL4Rec", **{"augment": "none", "groups": "kmeans", **changes})
        from dataclasses import replace

        filled = {"groups_file": clusters(workshop, tmp_path / "groups.tsv")}
        cell = replace(cell, settings=cell.settings.model_copy(update=filled))
        split = workshop.split(cell)
        model = make_model(cell, split)
        with torch.no_grad():
            model.nodes.weight.mul_(4)
        return split, model.train()

    return make


def batch(split: Any, size: int = 40) -> Any:
    return load_batch(split.train, np.random.default_rng(0).choice(len(split.dataset), size, replace=False))


def test_liked_candidates_are_barred_from_negatives_on_demand(workshop: Any) -> None:
    changes = {"groups": "none", "augment_users": "all", "augment_k": 5}
    drawn = {}
    for barred in (False, True):
        cell = workshop.provided(workshop.cell("LAGCL4Rec", **changes, augmented_seen=barred))
        split = workshop.split(cell)
        model = make_model(cell, split)
        users, items = (torch.as_tensor(ids).repeat(40) for ids in split.training_pairs)
        found = model.drawn_items(users, items)
        drawn[barred] = {*zip(users.tolist(), found[:, 1].tolist(), strict=True)}
    learnt = {*zip(*(ids.tolist() for ids in split.training_pairs), strict=True)}
    rated = {*zip(*(ids.tolist() for ids in split.seen_pairs), strict=True)}
    assert learnt - rated and not drawn[True] & (learnt | rated)
    assert drawn[False] & (learnt - rated) and not drawn[False] & rated


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"augment_top": 50, "augment_until": 50}, "no ranks are left for negatives"),
        ({"augment": "positive", "explicit_negative_weight": 0.5}, "no disliked candidates"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        LAGCL4RecSettings(**changes)


def test_hard_negatives_share_the_group_and_easy_ones_do_not(made: Any) -> None:
    split, model = made()
    tokens = split.item_tokens()
    group = {n: (int(t[1:]) - 1) // 8 if int(t[1:]) > 3 else "rest" for n, t in enumerate(tokens) if n}
    pairs = list(zip(*(ids.tolist() for ids in split.training_pairs), strict=True)) * 20
    users, items = (torch.tensor(column) for column in zip(*pairs, strict=True))
    drawn = model.drawn_items(users, items)
    met = set(zip(*(ids.tolist() for ids in split.seen_pairs), strict=True))
    hard_right = 0
    for (user, item), (positive, easy, hard) in zip(pairs, drawn.tolist(), strict=True):
        assert positive == item
        assert (user, easy) not in met and (user, hard) not in met
        assert group[easy] != group[item]
        possible = any(group[i] == group[item] and (user, i) not in met for i in group)
        assert (group[hard] == group[item]) == possible
        hard_right += possible
    assert hard_right > 0.9 * len(pairs)


def loss_by_hand(model: Any, views: Any, drawn: torch.Tensor, users: Any) -> torch.Tensor:
    """SPEC 5.3, a row and a node at a time, in float64."""
    o, offset = model.options, model.n_users
    final, anchor, other = (view.detach().double() for view in views)
    total = torch.zeros((), dtype=torch.float64)
    for column, weight in ((1, 1.0), (2, o.hard_weight)):
        s = [
            final[u] @ final[offset + row[0]] - final[u] @ final[offset + row[column]]
            for u, row in zip(users.tolist(), drawn.tolist(), strict=True)
        ]
        total = total + weight * -torch.log(1e-5 + torch.sigmoid(torch.stack(s))).mean()
    released = o.group_temperatures == "released"
    tp, th, te = (o.tau, max(0.1 * o.tau, 0.1), max(0.25 * o.tau, 0.1)) if released else (o.tau,) * 3
    groups = model.node_groups.tolist()
    sides = sorted(set(users.tolist())), sorted({offset + i for i in drawn[:, 0].tolist()})
    for nodes in sides:
        losses = []
        for a in nodes:
            c = {b: F.cosine_similarity(anchor[a], other[b], dim=0) for b in nodes}
            positive = torch.exp(c[a] / tp)
            same = sum(torch.exp(c[b] / th) for b in nodes if b != a and groups[b] == groups[a])
            rest = sum(torch.exp(c[b] / te) for b in nodes if groups[b] != groups[a])
            losses.append(-torch.log(positive / (positive + o.contrast_hard_weight * same + rest)))
        total = total + o.contrast_weight * torch.stack(losses).mean()
    rows = final[users].norm(), final[offset + drawn[:, 0]].norm()
    return total + o.reg_weight * sum(rows) / len(users)


@pytest.mark.parametrize("temperatures", ["released", "equal"])
@pytest.mark.parametrize("backbone", ["xsimgcl", "simgcl", "sgl"])
def test_the_loss_is_that_of_a_loop(backbone: str, temperatures: str, made: Any) -> None:
    chosen = {"reg_weight": 0.5, "contrast_weight": 0.3, "tau": 0.8, "group_temperatures": temperatures}
    split, model = made(backbone=backbone, **chosen)
    rows = batch(split)
    users, items = rows["user_id"], rows["item_id"]
    state = torch.get_rng_state()
    mine = model.calculate_loss(rows)
    torch.set_rng_state(state)
    views = model.encoder(model.nodes.weight)
    drawn = model.drawn_items(users, items)
    torch.testing.assert_close(mine.double(), loss_by_hand(model, views, drawn, users), rtol=1e-5, atol=0)


def test_without_groups_and_hard_negatives_it_is_xsimgcl(workshop: Any, made: Any) -> None:
    """The rank level's switches take everything away that XSimGCL has not."""
    split, model = made(**BARE, hard_weight=0.0, contrast_weight=0.2, tau=0.2)
    cell = workshop.cell("XSimGCL", protocol="sign", contrast_weight=0.2)
    plain = make_model(cell, workshop.split(cell)).train()
    plain.load_state_dict(model.state_dict())
    rows = batch(split)
    views = model.encoder(model.nodes.weight)
    drawn = torch.stack([rows["item_id"]] * 2, dim=1)
    ids = rows["user_id"].unique()
    ours, theirs = (
        (m.ranking_loss(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), drawn),
         m.contrast(views.anchor[ids], views.other[ids], ids))
        for m in (model, plain)
    )  # fmt: skip
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


def test_lightgcn_has_no_contrast(made: Any) -> None:
    split, model = made(backbone="lightgcn", contrast_weight=5.0)
    rows = batch(split)
    state = torch.get_rng_state()
    loss = model.calculate_loss(rows)
    torch.set_rng_state(state)
    model.options = model.options.model_copy(update={"contrast_weight": 0.0})
    assert torch.equal(loss, model.calculate_loss(rows))


@pytest.mark.parametrize(
    ("sides", "grouped"), [("both", (True, True)), ("items", (False, True)), ("users", (True, False))]
)
def test_who_is_grouped(sides: str, grouped: tuple[bool, bool], made: Any) -> None:
    _, model = made(group_sides=sides)
    users, items = model.node_groups.split([model.n_users, model.n_items])
    assert (len(users.unique()) > 1, len(items.unique()) > 1) == grouped
    x = torch.randn(12, 8)
    for ids, is_grouped in (
        (torch.arange(1, 13), grouped[0]),
        (model.n_users + torch.arange(1, 13), grouped[1]),
    ):
        model.options = model.options.model_copy(update={"contrast": "group"})
        with_groups = model.contrast(x, x.flip(0), ids)
        model.options = model.options.model_copy(update={"contrast": "plain"})
        assert torch.equal(with_groups, model.contrast(x, x.flip(0), ids)) != is_grouped


def test_disliked_candidates_push_scores_down_where_there_are_any(
    workshop: Any, made: Any, tmp_path: Path
) -> None:
    from dataclasses import replace

    path = tmp_path / "edges.tsv"
    path.write_text("u1\ti9\t5\nu1\ti20\t1\nu1\ti30\t1\nu2\ti40\t1\n")
    cell = workshop.cell("LAGCL4Rec", groups="none", augment="negative", explicit_negative_weight=0.5)
    cell = replace(cell, settings=cell.settings.model_copy(update={"edges": str(path)}))
    split = workshop.split(cell)
    model = make_model(cell, split)
    user = {name: n for n, name in enumerate(split.user_tokens())}
    item = {name: n for n, name in enumerate(split.item_tokens())}
    assert set(model.disliked[user["u1"]].tolist()) == {item["i20"], item["i30"]}
    assert model.disliked[user["u3"]].tolist() == [0, 0]
    rows = torch.tensor([user["u1"]] * 60 + [user["u3"]] * 60)
    drawn = model.drawn_items(rows, torch.ones_like(rows))
    assert set(drawn[:60, 3].tolist()) == {item["i20"], item["i30"]} and not drawn[60:, 3].any()
    scores = torch.zeros(120, 4)
    higher = scores.clone()
    higher[:60, 3] = 1.0
    assert model.ranking_loss(higher, drawn) > model.ranking_loss(scores, drawn)
    higher[:60, 3], higher[60:, 3] = 0.0, 9.0  # padding is nobody's dislike
    assert torch.equal(model.ranking_loss(higher, drawn), model.ranking_loss(scores, drawn))
    liked = dict(zip(*(ids.tolist() for ids in split.training_pairs), strict=True))
    assert (user["u1"], item["i9"]) in set(zip(*(i.tolist() for i in split.training_pairs), strict=True)), (
        liked
    )


def test_groups_are_read_by_token_and_the_rest_is_the_catch_all(tmp_path: Path) -> None:
    path = tmp_path / "groups.tsv"
    path.write_text("item\t7\t12\nitem\t9\t3\nuser\t7\t1\nitem\t11\t12\n")
    assert read_groups(path, "item", ["[PAD]", "9", "7", "5", "11"]).tolist() == [2, 0, 1, 2, 1]
    assert read_groups(path, "user", ["[PAD]", "7", "8"]).tolist() == [1, 0, 1]
    with pytest.raises(UserError, match="names no user of this dataset by its id"):
        read_groups(path, "user", ["[PAD]", "u7"])


def test_wrong_settings_are_refused(workshop: Any) -> None:
    with pytest.raises(UserError, match=r"oracle='gpt': .*expected heuristic"):
        LAGCL4RecSettings.read({"oracle": "gpt"})
    assert LAGCL4RecSettings.read({"rerank": False}).rerank == "off"
    with pytest.raises(UserError, match=r"augment=both: edges are ratings, which protocol seq has not"):
        workshop.cell("LAGCL4Rec", protocol="seq")
    with pytest.raises(UserError, match=r"rerank=classifier: it learns from a hold-out"):
        workshop.cell("LAGCL4Rec", protocol="seq", augment="none", rerank="classifier")
    for name in ("XSimGCL", "LAGCL4Rec"):
        with pytest.raises(UserError, match="contrast_layer 3 is above n_layers 2"):
            workshop.cell(name, protocol="sign", contrast_layer=3)
    assert workshop.cell("LAGCL4Rec", backbone="sgl", contrast_layer=3)
    with pytest.raises(UserError, match="augment_until=500"):
        workshop.cell("LAGCL4Rec", augment_until=500)
    cell = workshop.cell("LAGCL4Rec", augment="none", groups="kmeans")
    split = workshop.split(cell)
    with pytest.raises(UserError, match="LAGCL4Rec needs groups_file"):
        LAGCL4Rec(split.config, split.dataset)
