"""SiReN beside loops and dense matrices: branches, attention, the loss with signs, gradients."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.model.baseline.siren import SiReN
from recbole_llmgraph.suite.cell import choose_protocol
from recbole_llmgraph.suite.run import make_model


def made(workshop: Any, **changes: Any) -> tuple[Any, Any]:
    """Split and model with weights far from their small initial values."""
    cell = workshop.cell("SiReN", **changes)
    split = workshop.split(cell)
    model = make_model(cell, split)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.6 * torch.randn(weight.shape, generator=generator))
    return split, model.eval()


def weights(model: Any) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def triples(split: Any) -> list[tuple[int, int, float]]:
    inter = split.dataset.inter_feat
    return list(zip(*(inter[name].tolist() for name in ("user_id", "item_id", "rating")), strict=True))


def nodes_by_hand(split: Any, w: dict[str, np.ndarray], reference: Any, options: Any) -> np.ndarray:
    """Z by the equations, a node at a time after the propagation. Padding's rows are those of other nodes."""
    A = np.zeros((split.n_users, split.n_items))
    for user, item, rating in triples(split):
        A[user, item] = rating > options.liked_above
    z = reference.layers(reference.symmetric(reference.joined(A)), w["liked_nodes.weight"], options.n_layers)
    if not options.use_dislikes:
        return z
    found = []
    for zp, vn in zip(z, w["disliked_nodes.weight"], strict=True):
        for step in range(options.mlp_layers):
            vn = np.maximum(w[f"steps.{step}.weight"] @ vn + w[f"steps.{step}.bias"], 0)
        told = [
            float(w["query.weight"][0] @ np.tanh(w["attention.weight"] @ x + w["attention.bias"]))
            for x in (zp, vn)
        ]
        share = math.exp(told[0] - max(told)) / sum(math.exp(value - max(told)) for value in told)
        found.append(share * zp + (1 - share) * vn)
    return np.stack(found)


@pytest.mark.parametrize("changes", [{}, {"n_layers": 0, "mlp_layers": 1}, {"use_dislikes": False}])
def test_nodes_are_those_of_a_loop(changes: dict[str, Any], workshop: Any, reference: Any) -> None:
    split, model = made(workshop, **changes)
    with torch.no_grad():
        mine = model.fused().double().numpy()
    theirs = nodes_by_hand(split, weights(model), reference, model.options)
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def loss_by_hand(model: Any, Z: np.ndarray, rows: Any, negatives: Any) -> float:
    """The loss, a triple at a time."""
    options, offset, total, named = model.options, model.n_users, 0.0, []
    columns = (rows[name].tolist() for name in ("user_id", "item_id", "rating"))
    for user, item, rating, drawn in zip(*columns, negatives.tolist(), strict=True):
        own = Z[user] @ Z[offset + item]
        if rating <= options.liked_above:
            own = -own if options.disliked == "mirrored" else options.c * own
        for j in drawn:
            total += math.log1p(math.exp(Z[user] @ Z[offset + j] - own))
        named += [user, offset + item, *(offset + j for j in drawn)]
    penalised = named if options.reg_rows == "draws" else sorted(set(named))
    return float(total + options.reg_weight * sum(Z[node] @ Z[node] for node in penalised))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"c": 1.3, "reg_rows": "once"},
        {"disliked": "mirrored"},
        {"liked_above": 2.5, "use_dislikes": False},
    ],
)
def test_the_loss_is_that_of_a_loop(changes: dict[str, Any], workshop: Any, reference: Any) -> None:
    split, model = made(workshop, reg_weight=0.05, **changes)
    places = np.random.default_rng(0).choice(len(split.dataset), 24, replace=False)
    rows = load_batch(split.train, places)
    assert 0 < int((rows["rating"] > model.options.liked_above).sum()) < 24
    state = torch.get_rng_state()
    mine = float(model.calculate_loss(rows))
    torch.set_rng_state(state)
    negatives = model.negatives(rows["user_id"], model.options.n_negatives)
    Z = nodes_by_hand(split, weights(model), reference, model.options)
    assert mine == pytest.approx(loss_by_hand(model, Z, rows, negatives), rel=1e-4)


def test_every_part_learns_and_dislikes_are_no_edges(workshop: Any) -> None:
    split, model = made(workshop)
    model.train()
    model.calculate_loss(load_batch(split.train, np.arange(40))).backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())
    liked = {(u, i) for u, i, rating in triples(split) if rating > 3.5}
    assert len(model.likes.values) == 2 * len(liked) < 2 * len(triples(split))
    with torch.no_grad():
        assert not torch.equal(model.fused(), model.fused())  # dropout
        model.eval()
        assert torch.equal(model.fused(), model.fused())


def test_without_dislikes_their_table_stays_as_it_is(workshop: Any) -> None:
    split, model = made(workshop, use_dislikes=False)
    model.calculate_loss(load_batch(split.train, np.arange(40))).backward()
    assert model.disliked_nodes.weight.grad is None and model.liked_nodes.weight.grad is not None


def test_it_needs_ratings(workshop: Any) -> None:
    split = workshop.split(workshop.cell("LightGCN"))
    with pytest.raises(UserError, match="SiReN needs ratings: type --protocol rate"):
        SiReN(split.config, split.dataset)
    with pytest.raises(UserError, match="--protocol seq: SiReN runs under rate, sign"):
        choose_protocol([workshop.cell("SiReN").model], workshop.miniature.card, "seq")
