"""What a GAL-Rec prompt stands on: external rows that know no target, training edges, and the row alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recbole_llmgraph.artifact.tables import load_table, save_table
from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.model.galrec_reader import ExternalVectors, mean_rows
from recbole_llmgraph.model.galrec_views import Pairs
from recbole_llmgraph.suite.run import make_model

FAST = {"text_encoder": "tfidf:16", "rescale": False}


def model_of(workshop: Any, item_vectors: str = "", **changes: Any) -> tuple[Any, Any]:
    cell = workshop.provided(workshop.cell("GALRec", **FAST, **changes))
    if item_vectors:
        told = cell.settings.model_copy(update={"item_vectors": item_vectors})
        cell = replace(cell, settings=told)
    split = workshop.split(cell)
    return split, make_model(cell, split).eval()


def rows_of(split: Any, part: str, numbers: Any = None) -> Any:
    """Rows of a part as the trainer or judge would load them."""
    loader = getattr(split, part)
    found = loader.collate_fn(np.arange(loader.sample_size) if numbers is None else np.asarray(numbers))
    return found[0] if isinstance(found, tuple) else found


def pairs_by_token(split: Any, users: Any, items: Any) -> set[tuple[str, str]]:
    u, i = split.user_tokens(), split.item_tokens()
    return {(u[a], i[b]) for a, b in zip(users, items, strict=True)}


# ---- external rows


def external(user_row: Any = "history", d1: int = 3, width: int = 4, **options: Any) -> ExternalVectors:
    torch.manual_seed(0)
    items, users, text = torch.randn(6, d1), torch.randn(5, d1), 7 * torch.randn(20, width)
    items[0] = users[0] = 0
    return ExternalVectors(items, users, text, user_row, **{"trainable": False, "rescale": True, **options})


PAIRS = Pairs(
    torch.tensor([2, 4, 1]),
    torch.tensor([[5, 3, 3], [1, 2, 0], [2, 0, 0]]),
    torch.tensor([3, 2, 1]),
    torch.tensor([5, 4, 2]),  # a target met before, a new one, and one that is all of the history
    torch.zeros(3, dtype=torch.long),
)


def test_an_owners_row_is_the_mean_of_the_items_before_the_target() -> None:
    of = external()
    expected = torch.stack([of.items[3], (of.items[1] + of.items[2]) / 2, torch.zeros(3)])
    torch.testing.assert_close(of.owners(PAIRS), expected)
    longer = replace(PAIRS, history=nn.functional.pad(PAIRS.history, (0, 4), value=1))  # beyond the length
    torch.testing.assert_close(of.owners(longer), expected)


def test_static_and_empty_owners() -> None:
    of = external("static")
    assert torch.equal(of.owners(PAIRS), of.users[PAIRS.users])
    assert torch.equal(external("none").owners(PAIRS), torch.zeros(3, 3))


def test_mapped_rows_are_as_large_as_text_rows() -> None:
    for d1, width in ((3, 4), (4, 4)):
        of = external(d1=d1, width=width)
        torch.manual_seed(0)
        torch.randn(6, d1), torch.randn(5, d1)
        text = 7 * torch.randn(20, width)
        assert isinstance(of.mapping, nn.Identity if d1 == width else nn.Linear)
        found = of.mapped_items()[1:].square().mean().sqrt()
        torch.testing.assert_close(found, text.square().mean().sqrt())
        torch.testing.assert_close(of(of.users), of.mapping(of.users) * of.scale)
    assert float(external(rescale=False).scale) == 1


def test_vectors_are_trained_only_where_they_are_to_be() -> None:
    frozen, trained = external(), external(trainable=True)
    assert {name for name, _ in frozen.named_parameters()} == {"mapping.weight", "mapping.bias"}
    assert {"items", "users"} <= {name for name, _ in trained.named_parameters()}
    assert set(frozen.state_dict()) == {"mapping.weight", "mapping.bias", "scale"}
    trained(trained.owners(PAIRS)).sum().backward()
    assert trained.items.grad[[1, 2, 3]].any(1).all()
    assert not trained.items.grad[[0, 4, 5]].any()  # padding, and targets


def test_mean_rows_equal_loops() -> None:
    rows = torch.randn(5, 3)
    met = {1: [2, 2, 4], 3: [1]}
    users = torch.tensor([u for u, items in met.items() for _ in items])
    found = mean_rows(rows, users, torch.tensor([i for items in met.values() for i in items]), 5)
    for user in range(5):
        items = met.get(user, [])
        expected = sum((rows[i] for i in items), torch.zeros(3)) / max(1, len(items))
        torch.testing.assert_close(found[user], expected)


def test_static_rows_of_text_are_means_over_all_training_items(workshop: Any, miniature: Any) -> None:
    split, model = model_of(workshop, user_row="static")
    place = {token: number for number, token in enumerate(split.item_tokens())}
    for number, token in enumerate(split.user_tokens()[1:], start=1):
        items = [place[item] for item in miniature.parts()[token]["train"]]
        torch.testing.assert_close(
            model.reader.external.users[number], model.reader.external.items[items].mean(0)
        )


# ---- trap: a user's row that was made from her target too


@pytest.fixture(scope="module")
def pushed(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int, Any]:
    """Item vectors with one training target's moved, its row in the training part, and the model's split."""
    cell = workshop.provided(workshop.cell("GALRec", **FAST))
    split = workshop.split(cell)
    row = 40
    target = int(rows_of(split, "train", [row])["item_id"])
    table = load_table(Path(cell.settings.item_vectors))
    moved = table.rows.clone()
    moved[table.position[split.item_tokens()[target]]] += 3.0
    file = tmp_path_factory.mktemp("pushed") / "items.safetensors"
    save_table(file, table.tokens, moved, table.meta)
    return str(file), row, target


def encoded(model: Any, interaction: Any, views: list[Any]) -> dict[str, Tensor]:
    return model.encodings(interaction, views)


@pytest.mark.parametrize("user_row", ["history", "static"])
def test_only_a_static_row_holds_the_target(user_row: str, workshop: Any, pushed: Any) -> None:
    """Moving the target's vector moves what the user is told to be, where her row was made from it."""
    file, row, target = pushed
    (split, before), (_, after) = (model_of(workshop, f, user_row=user_row) for f in ("", file))
    interaction = rows_of(split, "train", [row])
    assert int(interaction["item_id"]) == target and target not in interaction["item_id_list"]
    was, now = (encoded(model, interaction, ["u0", "u1", "i0", "i1"]) for model in (before, after))
    for view in ("u0", "u1"):
        assert torch.equal(was[view], now[view]) == (user_row == "history")
    assert not torch.equal(was["i0"], now["i0"]) and not torch.equal(was["i1"], now["i1"])


@pytest.mark.parametrize("met_before", [False, True])
def test_no_view_of_the_user_reads_the_targets_vector(met_before: bool, workshop: Any) -> None:
    """Two hops away neither: other users are named by rows of their own."""
    split, model = model_of(workshop)
    items = model.reader.external.items
    for row in (3, 40, 90):
        interaction = rows_of(split, "train", [row])
        target = int(interaction["item_id"])
        if met_before:
            interaction["item_id_list"][:, 0] = target
        was = encoded(model, interaction, ["u0", "u1", "u2", "i0"])
        items[target] += 3.0
        now = encoded(model, interaction, ["u0", "u1", "u2", "i0"])
        items[target] -= 3.0
        assert [torch.equal(was[view], now[view]) for view in was] == [True, True, True, False]


def test_a_user_without_a_row_cannot_be_contrasted(workshop: Any) -> None:
    with pytest.raises(UserError, match="user_row: none leaves the view u0 without a user; set gal=false"):
        workshop.cell("GALRec", user_row="none")
    split, model = model_of(workshop, user_row="none", gal=False)
    assert not hasattr(model, "contrast")
    assert torch.isfinite(model.calculate_loss(rows_of(split, "train", range(8))))


# ---- edges and histories


def test_graphs_hold_the_training_edges_and_no_other(workshop: Any, miniature: Any) -> None:
    split, model = model_of(workshop)
    expected = {(u, i) for u, parts in miniature.parts().items() for i in parts["train"]}
    of_users, of_items = model.views.items_of, model.views.users_of
    for sampler, turned in ((of_users, False), (of_items, True)):
        degree = sampler.starts.diff()
        nodes = torch.arange(len(degree)).repeat_interleave(degree)
        ends = (sampler.neighbours, nodes) if turned else (nodes, sampler.neighbours)
        assert len(nodes) == len(expected)
        assert pairs_by_token(split, ends[0].tolist(), ends[1].tolist()) == expected


@pytest.mark.parametrize("part", ["valid", "test"])
def test_scoring_reads_the_history_to_the_item_before(part: str, workshop: Any, miniature: Any) -> None:
    """At test it ends with the validation item; the target itself is nowhere."""
    split, model = model_of(workshop)
    interaction = rows_of(split, part)
    found = model.views.neighbours(model._pairs(interaction), ["u2"])["u2"]["near"]
    tokens, users = split.item_tokens(), split.user_tokens()
    for row, user in enumerate(interaction["user_id"].tolist()):
        parts = miniature.parts()[users[user]]
        history = [*parts["train"], parts["valid"]] if part == "test" else parts["train"]
        ids, counts = found
        assert [tokens[item] for item in ids[row, : counts[row]].tolist()] == history[-6:]


def test_scores_do_not_read_the_target(workshop: Any) -> None:
    split, model = model_of(workshop)
    interaction = rows_of(split, "test")
    with torch.no_grad():
        before = model.full_sort_predict(interaction)
        interaction["item_id"] = interaction["item_id"].roll(1)
        assert torch.equal(model.full_sort_predict(interaction), before)


def test_scores_depend_on_the_row_alone(workshop: Any) -> None:
    """Not on batches, their order, the epoch, or what was scored or trained before."""
    split, model = model_of(workshop, hops=3)
    count = split.test.sample_size
    order = np.random.default_rng(0).permutation(count)
    with torch.no_grad():
        whole = model.full_sort_predict(rows_of(split, "test")).view(count, -1)
        model.start_epoch(5)
        model.calculate_loss(rows_of(split, "train", range(6)))
        for sizes in (1, 7, count):
            found = torch.empty_like(whole)
            for start in range(0, count, sizes):
                rows = order[start : start + sizes]
                found[rows] = model.full_sort_predict(rows_of(split, "test", rows)).view(len(rows), -1)
            torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)
    assert whole[:, 0].eq(-torch.inf).all() and whole[:, 1:].isfinite().all()


def test_epochs_draw_other_neighbours_and_seeds_too(workshop: Any) -> None:
    split, model = model_of(workshop)
    interaction = rows_of(split, "train", range(60))

    def told(model: Any) -> Tensor:
        pairs = model._pairs(interaction, interaction["item_id"], model.epoch)
        return model.views.neighbours(pairs, ["u2"])["u2"]["far"][0]

    first = told(model)
    model.start_epoch(1)
    second = told(model)
    model.start_epoch(0)
    assert torch.equal(told(model), first) and not torch.equal(second, first)
    model.seed += 1
    assert not torch.equal(told(model), first)


def test_encodings_are_unit_rows_and_the_same_whenever_they_are_asked_for(workshop: Any) -> None:
    """Fig. 4 of a model read back from disk is that of the model just trained."""
    split, model = model_of(workshop)
    interaction = rows_of(split, "train", range(20))
    views = ["u0", "u1", "u2", "i0", "i1", "i2"]
    first = encoded(model, interaction, views)
    model.start_epoch(3)
    again = encoded(model, interaction, list(reversed(views)))
    for view in views:
        torch.testing.assert_close(first[view].norm(dim=1), torch.ones(20))
        torch.testing.assert_close(first[view], again[view])
