"""SLMRec against dense matrices: views, fusion, the main loss and each self-supervised task."""

from typing import Any

import numpy as np
import pytest
import torch

CASES: dict[str, dict[str, Any]] = {
    "fine and coarse": {},
    "other weights": {"tau": 0.5, "ssl_tau": 0.3, "ssl_weight": 1.0, "n_layers": 1},
    "no_ssl": {"ssl_task": "none"},
    "feature_masking": {"ssl_task": "FM", "ssl_weight": 0.7},
    "feature dropout of nothing": {"ssl_task": "FD", "dropout": 0.0},
}


def norm(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def recognised(a: np.ndarray, b: np.ndarray, tau: float) -> float:
    """Mean over rows of -log of the share of the row's own partner."""
    found = []
    for place, row in enumerate(a):
        powers = np.exp(b @ row / tau)
        found.append(-np.log(powers[place] / powers.sum()))
    return float(np.mean(found))


class Dense:
    """The equations; views are ids, images, text."""

    def __init__(self, one: Any, reference: Any) -> None:
        self.one, self.weights, self.options = one, one.weights, one.model.options
        self.names = [name for name in ("image", "text") if name in one.features]
        self.P = reference.symmetric(reference.joined(one.A))
        self.reference = reference
        self.layer0 = [one.table("item_nodes.weight")]
        for name in self.names:
            self.layer0.append(self.linear(f"projections.{name}", norm(one.features[name])))

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def views(self, layer0: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        users, found = self.one.table("user_nodes.weight"), []
        for items in layer0:
            e = self.reference.layers(self.P, np.concatenate([users, items]), self.options.n_layers)
            found.append((e[: len(users)], e[len(users) :]))
        return found

    def fused(self, layer0: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        users, items = (np.concatenate(side, axis=1) for side in zip(*self.views(layer0), strict=True))
        return self.linear("fuse_users", users), self.linear("fuse_items", items)

    def masked(self, which: int) -> tuple[np.ndarray, np.ndarray]:
        return self.fused([0 * view if place == which else view for place, view in enumerate(self.layer0)])

    def task(self, u: np.ndarray, i: np.ndarray, masks: tuple[int, int]) -> float:
        tau = self.options.ssl_tau
        if self.options.ssl_task == "FAC":
            (_, y), *rest = self.views(self.layer0)
            total = 0.0
            for name, (_, view) in zip(self.names, rest, strict=True):
                y = self.linear(f"steps.{name}", y)
                total += recognised(y[i], self.linear(f"heads.{name}", view)[i], tau)
            return total
        (u1, i1), (u2, i2) = (self.masked(which) for which in masks)
        of_users = recognised(norm(u1[u]), norm(u2[u]), tau)
        return of_users + recognised(norm(i1[i]), norm(i2[i]), tau)


@pytest.mark.parametrize("case", CASES)
def test_vectors_and_loss_are_the_equations(case: str, place: Any, opened: Any, reference: Any) -> None:
    one = opened(place, "SLMRec", **{"n_layers": 3, **CASES[case]})
    dense, options = Dense(one, reference), one.model.options
    users, items = dense.fused(dense.layer0)
    for found, expected in zip(one.model(), (users, items), strict=True):
        np.testing.assert_allclose(found.detach()[1:].numpy(), expected, rtol=2e-4, atol=2e-5)
    rows, triples = one.triples()
    u, i, _ = triples.T
    torch.manual_seed(4)
    masks = tuple(torch.randperm(len(dense.layer0))[:2].tolist()) if "FM" in options.ssl_task else (-1, -1)
    expected = recognised(norm(users[u]), norm(items[i]), options.tau)
    if options.ssl_task != "none":
        expected += options.ssl_weight * dense.task(u, i, masks)
    torch.manual_seed(4)
    assert float(one.model.calculate_loss(rows)) == pytest.approx(expected, rel=1e-5)


def test_two_graphs_differ_by_dropout_or_by_what_is_masked(workshop: Any, opened: Any) -> None:
    """A task that recognises equal vectors would be lower than any that has something to learn."""
    losses = {}
    for task, dropout in (("FD", 0.0), ("FD", 0.5), ("FM", 0.0), ("FD+FM", 0.5)):
        one = opened(workshop, "SLMRec", ssl_task=task, dropout=dropout)
        users, items = (one.triples(20)[0][name] for name in ("user_id", "item_id"))
        torch.manual_seed(0)
        losses[task, dropout] = float(one.model.two_graphs(one.model.item_views(), users, items))
    assert losses["FD", 0.0] < min(losses["FD", 0.5], losses["FM", 0.0])
    assert len(set(losses.values())) == 4


def test_the_batch_is_its_own_negatives(workshop: Any) -> None:
    batch = next(iter(workshop.reference("SLMRec").split.train))
    assert "neg_item_id" not in batch.columns
