"""BM3 against its equations row by row; no gradient through targets, no negatives."""

from typing import Any

import numpy as np
import pytest
import torch

CASES: dict[str, dict[str, Any]] = {
    "released": {},
    "two layers": {"n_layers": 2, "cl_weight": 0.7, "reg_weight": 3.0},
    "as printed": {"fidelity": "paper", "reg_weight": 3.0},
    "no_reconstruction": {"use_reconstruction": False},
    "no_inter": {"use_inter": False},
    "no_intra": {"use_intra": False},
    "no_multimodal": {"cl_weight": 0.0},
}


def hidden(one: Any, reference: Any) -> tuple[np.ndarray, np.ndarray]:
    ids = one.table("item_nodes.weight")
    nodes = np.concatenate([one.table("user_nodes.weight"), ids])
    nodes = reference.layers(reference.symmetric(reference.joined(one.A)), nodes, one.model.options.n_layers)
    users = len(one.A)
    return nodes[:users], nodes[users:] + ids


def predictor(one: Any, x: np.ndarray) -> np.ndarray:
    return x @ one.weights["predictor.weight"].T + one.weights["predictor.bias"]


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """1 - mean cosine, one row after the other."""
    return 1 - float(np.mean([x @ y / np.sqrt((x @ x) * (y @ y)) for x, y in zip(a, b, strict=True)]))


@pytest.mark.parametrize("case", CASES)
def test_vectors_and_loss_are_the_equations(case: str, place: Any, opened: Any, reference: Any) -> None:
    one = opened(place, "BM3", **{"dropout": 0.0, **CASES[case]})
    options = one.model.options
    users, items = hidden(one, reference)
    for found, expected in zip(one.model(), (users, items), strict=True):
        np.testing.assert_allclose(found.detach()[1:].numpy(), predictor(one, expected), rtol=2e-4, atol=2e-5)
    rows, triples = one.triples()
    u, i = users[triples[:, 0]], items[triples[:, 1]]
    if options.fidelity == "paper":
        penalty = float(np.mean([a @ a + b @ b for a, b in zip(u, i, strict=True)]))
    else:  # the padding rows are nodes of the whole table, too
        whole = [table.detach().double().numpy() for table in one.model.represent()]
        penalty = sum(np.sqrt((table**2).sum()) for table in whole) / one.split.n_items
    expected = options.reg_weight * penalty
    if options.use_reconstruction:
        expected += apart(predictor(one, u), i) + apart(predictor(one, i), u)
    for name in one.features:
        W, b = one.weights[f"projections.{name}.weight"], one.weights[f"projections.{name}.bias"]
        t = (one.table(f"features.{name}.weight") @ W.T + b)[triples[:, 1]]
        expected += options.cl_weight * options.use_inter * apart(predictor(one, t), i)
        expected += options.cl_weight * options.use_intra * apart(predictor(one, t), t)
    assert float(one.model.calculate_loss(rows)) == pytest.approx(expected, rel=1e-5)


def test_targets_are_dropped_out_and_pass_no_gradient(workshop: Any, opened: Any) -> None:
    model = opened(workshop, "BM3", dropout=0.5).model
    x = torch.ones(200, 8, requires_grad=True)
    torch.manual_seed(0)
    target = model._target(x)
    assert not target.requires_grad
    assert set(target.unique().tolist()) == {0.0, 2.0}
    assert float((target == 0).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_the_alignment_of_a_modality_alone_moves_neither_users_nor_items(workshop: Any, opened: Any) -> None:
    """With targets cut off, the item's graph representation is a constant of the inter-modality loss."""
    one = opened(workshop, "BM3", use_reconstruction=False, reg_weight=0.0)
    rows, _ = one.triples()
    one.model.calculate_loss(rows).backward()
    for table in (one.model.user_nodes, one.model.item_nodes):
        assert table.weight.grad is None or float(table.weight.grad.abs().max()) == 0
    assert float(one.model.features["text"].weight.grad.abs().max()) > 0


def test_no_negatives_are_drawn(workshop: Any) -> None:
    trained = workshop.reference("BM3")
    assert trained.split.config["train_neg_sample_args"]["distribution"] == "none"
    batch = next(iter(trained.split.train))
    assert "neg_item_id" not in batch.columns
    assert len(batch) == min(32, len(trained.split.dataset))
