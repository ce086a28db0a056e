"""GRCN against loops over every user's and every item's neighbours."""

from typing import Any

import numpy as np
import pytest
import torch

CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "other widths": {"content_size": 5, "n_routing": 2, "reg_weight": 0.5},
    "no_routing": {"n_routing": 0},
    "no_confidence": {"use_confidence": False},
    "no_content": {"use_content": False},
}


def norm(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class Loops:
    """The equations, one receiving node after the other."""

    def __init__(self, one: Any) -> None:
        self.options, self.weights = one.model.options, one.weights
        self.U, self.N = one.A.shape
        self.of_user = [np.flatnonzero(row) for row in one.A]
        self.of_item = [np.flatnonzero(column) for column in one.A.T]
        self.one = one

    @staticmethod
    def attend(own: np.ndarray, others: np.ndarray) -> np.ndarray:
        powers = np.exp(others @ own)
        return powers / powers.sum()

    def content(self, name: str) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray]]:
        W, b = self.weights[f"projections.{name}.weight"], self.weights[f"projections.{name}.bias"]
        f = self.one.features[name] @ W.T + b
        f = norm(np.where(f > 0, f, 0.01 * f))
        p = norm(self.weights[f"preferences.{name}"][1:])
        for _ in range(self.options.n_routing):
            p = norm(np.stack([p[u] + self.attend(p[u], f[i]) @ f[i] for u, i in enumerate(self.of_user)]))
        to_users = [self.attend(p[u], f[i]) for u, i in enumerate(self.of_user)]
        to_items = [self.attend(f[i], p[u]) for i, u in enumerate(self.of_item)]
        c_u = np.stack([p[u] + to_users[u] @ f[i] for u, i in enumerate(self.of_user)])
        c_i = np.stack([f[i] + to_items[i] @ p[u] for i, u in enumerate(self.of_item)])
        return c_u, c_i, to_users, to_items

    def weigh(self, attention: list[np.ndarray], senders: np.ndarray, offset: int) -> np.ndarray:
        """Weights of one node's edges from its attention in every modality."""
        found = []
        for m, shares in enumerate(attention):
            sure = self.weights["confidence"][offset + senders, m] if self.options.use_confidence else 1.0
            found.append(shares * sure)
        return np.maximum(np.max(found, axis=0), 0)

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        parts = [self.content(name) for name in self.one.features]
        xu, xi = norm(self.one.table("user_nodes.weight")), norm(self.one.table("item_nodes.weight"))
        wu = [self.weigh([p[2][u] for p in parts], i, self.U + 2) for u, i in enumerate(self.of_user)]
        wi = [self.weigh([p[3][i] for p in parts], u, 1) for i, u in enumerate(self.of_item)]
        zu, zi = xu, xi
        for _ in range(2):
            xu, xi = (
                np.stack([w @ xi[i] for w, i in zip(wu, self.of_user, strict=True)]),
                np.stack([w @ xu[u] for w, u in zip(wi, self.of_item, strict=True)]),
            )
            zu, zi = zu + xu, zi + xi
        if not self.options.use_content:
            return zu, zi
        return (
            np.concatenate([zu, *(p[0] for p in parts)], axis=1),
            np.concatenate([zi, *(p[1] for p in parts)], axis=1),
        )


@pytest.mark.parametrize("case", CASES)
def test_vectors_and_loss_are_the_equations(case: str, place: Any, opened: Any, reference: Any) -> None:
    one = opened(place, "GRCN", **{"reg_weight": 0.1, **CASES[case]})
    users, items = Loops(one).vectors()
    for found, expected in zip(one.model(), (users, items), strict=True):
        np.testing.assert_allclose(found.detach()[1:].numpy(), expected, rtol=2e-4, atol=2e-5)
    rows, triples = one.triples()
    u, p, n = triples.T
    x, y = one.table("user_nodes.weight"), one.table("item_nodes.weight")
    penalty = (x[u] ** 2).mean() + (y[np.concatenate([p, n])] ** 2).mean()
    penalty += sum((one.weights[f"preferences.{name}"][1:][u] ** 2).mean() for name in one.features)
    expected = reference.bpr(users[u], items[p], items[n]) + one.model.options.reg_weight * penalty
    assert float(one.model.calculate_loss(rows)) == pytest.approx(expected, rel=1e-5)


def test_edges_from_nodes_without_confidence_are_pruned(workshop: Any, opened: Any) -> None:
    model = opened(workshop, "GRCN").model
    with torch.no_grad():
        model.confidence.fill_(1.0)
        model.confidence[model.n_users + 3] = -1.0  # item 3 tells users nothing
        model.confidence[5] = -1.0  # user 5 tells items nothing
        _, attention = model.content("text")
        to_users, to_items = model.edge_weights([attention])
    assert torch.equal(to_users == 0, model.to_users.columns == 3)
    assert torch.equal(to_items == 0, model.to_items.columns == 5)
    torch.testing.assert_close(to_users[to_users > 0], attention[0][to_users > 0])


def test_every_weight_learns(workshop: Any, opened: Any) -> None:
    one = opened(workshop, "GRCN", confidence_start="one")
    one.model.calculate_loss(one.triples()[0]).backward()
    for name, weight in one.model.named_parameters():
        assert weight.grad is not None and float(weight.grad.abs().sum()) > 0, name


def test_confidences_start_as_asked(workshop: Any) -> None:
    from recbole_llmgraph.suite.run import make_model

    for start, negative in (("xavier", 0.5), ("one", 0.0)):
        cell = workshop.provided(workshop.cell("GRCN", confidence_start=start))
        below = make_model(cell, workshop.split(cell)).confidence < 0
        assert float(below.float().mean()) == pytest.approx(negative, abs=0.15)
