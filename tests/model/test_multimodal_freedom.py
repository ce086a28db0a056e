"""FREEDOM against dense matrices, and the edges that an epoch goes without."""

from typing import Any

import numpy as np
import pytest
import torch

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.suite.run import make_model

CASES: dict[str, dict[str, Any]] = {
    "released": {},
    "other depths": {"n_layers": 3, "item_layers": 2, "knn_k": 6},
    "other weights": {"reg_weight": 0.5, "image_weight": 0.4},
    "no_item_graph": {"use_item_graph": False},
    "no modality loss": {"reg_weight": 0.0, "n_layers": 0},
}


def item_graph(one: Any, reference: Any) -> np.ndarray:
    options = one.model.options
    shares = {"text": 1 - options.image_weight, "image": options.image_weight}
    if len(one.features) == 1:
        shares = {"text": 1.0}
    nearest = {name: reference.nearest(rows, options.knn_k) for name, rows in one.features.items()}
    return sum(shares[name] * reference.symmetric(S) for name, S in nearest.items())


def vectors(one: Any, A: np.ndarray, reference: Any) -> tuple[np.ndarray, np.ndarray]:
    options = one.model.options
    ids = one.table("item_nodes.weight")
    nodes = np.concatenate([one.table("user_nodes.weight"), ids])
    nodes = reference.layers(reference.symmetric(reference.joined(A)), nodes, options.n_layers)
    users, items = nodes[: len(A)], nodes[len(A) :]
    if options.use_item_graph:
        items = items + np.linalg.matrix_power(item_graph(one, reference), options.item_layers) @ ids
    return users, items


@pytest.mark.parametrize("case", CASES)
def test_vectors_and_loss_are_the_equations(case: str, place: Any, opened: Any, reference: Any) -> None:
    one = opened(place, "FREEDOM", **{"edge_dropout": 0.0, **CASES[case]})
    users, items = vectors(one, one.A, reference)
    for found, expected in zip(one.model(), (users, items), strict=True):
        np.testing.assert_allclose(found.detach()[1:].numpy(), expected, rtol=2e-4, atol=2e-5)
    rows, triples = one.triples()
    u, p, n = triples.T
    expected = reference.bpr(users[u], items[p], items[n])
    for name in one.features:
        W, b = one.weights[f"projections.{name}.weight"], one.weights[f"projections.{name}.bias"]
        f = one.table(f"features.{name}.weight") @ W.T + b
        expected += one.model.options.reg_weight * reference.bpr(users[u], f[p], f[n])
    assert float(one.model.calculate_loss(rows)) == pytest.approx(expected, rel=1e-5)


def test_an_epoch_trains_on_its_edges_and_scores_on_all(workshop: Any, opened: Any, reference: Any) -> None:
    one = opened(workshop, "FREEDOM", edge_dropout=0.6, reg_weight=0.0)
    rows, triples = one.triples()
    torch.manual_seed(5)
    one.model.train()
    loss = float(one.model.calculate_loss(rows))
    pruned = one.model.pruned_adjacency()
    n = one.split.n_users + one.split.n_items
    found = pruned(torch.eye(n)).numpy() != 0
    stay = found[1 : one.split.n_users, one.split.n_users + 1 :].astype(float)
    assert stay.sum() == int(one.A.sum() * 0.4) and not (stay * (1 - one.A)).any()
    users, items = vectors(one, stay, reference)
    u, p, n = triples.T
    assert loss == pytest.approx(reference.bpr(users[u], items[p], items[n]), rel=1e-5)
    one.model.eval()
    scores = one.model.full_sort_predict(rows).view(len(rows), -1)[:, 1:]
    users, items = vectors(one, one.A, reference)
    np.testing.assert_allclose(scores.detach().numpy(), users[u] @ items.T, rtol=2e-4, atol=1e-4)


def test_edges_are_drawn_once_an_epoch(workshop: Any, opened: Any) -> None:
    model = opened(workshop, "FREEDOM", edge_dropout=0.6).model
    drawn = []
    for _ in range(3):
        model.train()  # as the suite's trainer and RecBole's do before every epoch
        first = model.pruned_adjacency()
        assert model.pruned_adjacency() is first
        drawn.append(first.cols.clone())
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])


def test_edges_of_popular_nodes_stay_less_often(workshop: Any, opened: Any) -> None:
    """Of two edges one stays: the chance is the share of its weight, 1 / sqrt(d_u d_i)."""
    model = opened(workshop, "FREEDOM", edge_dropout=0.5).model
    model.edge_users, model.edge_items = torch.tensor([1, 2, 2, 2]), torch.tensor([1, 2, 3, 4])
    torch.manual_seed(0)
    counts = sum(torch.bincount(model._draw_edges(), minlength=4) for _ in range(2000)).double() / 2000
    weight = np.array([1.0, *[3**-0.5] * 3])
    p = weight / weight.sum()
    expected = [
        p[i] + sum(p[j] * p[i] / (1 - p[j]) for j in range(4) if j != i) for i in range(4)
    ]  # first or second of two draws without replacement
    np.testing.assert_allclose(counts.numpy(), expected, atol=0.04)
    uniform = opened(workshop, "FREEDOM", edge_dropout=0.5, pruning="uniform").model
    uniform.edge_users, uniform.edge_items = model.edge_users, model.edge_items
    counts = sum(torch.bincount(uniform._draw_edges(), minlength=4) for _ in range(2000)).double() / 2000
    np.testing.assert_allclose(counts.numpy(), 0.5, atol=0.04)


def test_the_item_graph_stays_while_features_learn(workshop: Any) -> None:
    trained = workshop.reference("FREEDOM")
    fresh = make_model(trained.cell, trained.split)
    before, after = (model.graphs["text"](torch.eye(49)) for model in (fresh, trained.model))
    assert torch.equal(before, after)
    assert not torch.equal(fresh.features["text"].weight, trained.model.features["text"].weight)
    assert torch.equal(trained.model.features["text"].weight[0], torch.zeros(16))  # padding learns nothing


def test_mistakes_are_told(workshop: Any) -> None:
    cell = workshop.cell("FREEDOM")  # nothing provided
    with pytest.raises(UserError, match=r"FREEDOM needs text_features.*recbole_settings"):
        make_model(cell, workshop.split(cell))
    cell = workshop.provided(workshop.cell("FREEDOM", knn_k=49))
    with pytest.raises(UserError, match="knn_k=49: there are 48 items"):
        make_model(cell, workshop.split(cell))
