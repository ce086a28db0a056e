"""LATTICE against dense matrices under plain autograd; its learnt graph is never N x N at once."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

CASES: dict[str, dict[str, Any]] = {
    "released": {},
    "other depths": {"n_layers": 1, "item_layers": 2, "knn_k": 7, "skip_weight": 0.4},
    "as printed": {"fidelity": "paper", "reg_weight": 0.3},
    "no_item_graph": {"use_item_graph": False},
    "no_learned_graph": {"skip_weight": 1.0},
    "no_given_graph": {"skip_weight": 0.0},
}


class Dense:
    """The equations in float64 with dense matrices; gradients are autograd's."""

    def __init__(self, one: Any, reference: Any) -> None:
        self.one, self.reference, self.options = one, reference, one.model.options
        self.state = {n: p.detach().double().requires_grad_() for n, p in one.model.named_parameters()}

    def nearest(self, x: Tensor) -> Tensor:
        """kNN of the cosines of rows; which ones are kept is a constant."""
        kept = torch.from_numpy(self.reference.nearest(x.detach().numpy(), self.options.knn_k))
        unit = F.normalize(x, dim=1)
        return kept * (unit @ unit.T)

    @staticmethod
    def normalised(S: Tensor) -> Tensor:
        """D^-1/2 S D^-1/2; a row that sums to nothing is empty."""
        degree = S.sum(1)
        inverse = torch.where(degree > 0, degree.clamp(min=1e-300).rsqrt(), 0.0)
        return inverse[:, None] * S * inverse

    def item_graph(self) -> Tensor:
        names = list(self.one.features)
        a = torch.softmax(self.state["modality_weights"], 0)
        given: Any = 0
        learnt: Any = 0
        for m, name in enumerate(names):
            features = self.state[f"features.{name}.weight"][1:]
            W, b = self.state[f"projections.{name}.weight"], self.state[f"projections.{name}.bias"]
            raw = torch.from_numpy(self.one.features[name])
            given = given + a[m] * self.normalised(self.nearest(raw))
            learnt = learnt + a[m] * self.nearest(features @ W.T + b)
        share = self.options.skip_weight
        return share * given + (1 - share) * self.normalised(learnt)

    def vectors(self) -> tuple[Tensor, Tensor]:
        A = torch.from_numpy(self.reference.joined(self.one.A))
        if self.options.fidelity == "release":
            A = A + torch.eye(len(A))
            G = A / A.sum(1, keepdim=True)
        else:
            G = torch.from_numpy(self.reference.symmetric(A.numpy()))
        ids = self.state["item_nodes.weight"][1:]
        layer = torch.cat([self.state["user_nodes.weight"][1:], ids])
        layers = [layer]
        for _ in range(self.options.n_layers):
            layers.append(G @ layers[-1])
        users, items = torch.stack(layers).mean(0).split([len(self.one.A), len(ids)])
        if self.options.use_item_graph:
            h = torch.linalg.matrix_power(self.item_graph(), self.options.item_layers) @ ids
            items = items + F.normalize(h, dim=1)
        return users, items

    def loss(self, triples: Any) -> Tensor:
        users, items = self.vectors()
        u, p, n = users[triples[:, 0]], items[triples[:, 1]], items[triples[:, 2]]
        ranking = -torch.log(torch.sigmoid((u * p).sum(1) - (u * n).sum(1))).mean()
        size = sum((v**2).sum() for v in (u, p, n))
        return ranking + self.options.reg_weight * size / (2 * len(u))


@pytest.mark.parametrize("case", CASES)
def test_vectors_loss_and_gradients_are_the_equations(
    case: str, place: Any, opened: Any, reference: Any
) -> None:
    one = opened(place, "LATTICE", **{"reg_weight": 0.01, **CASES[case]})
    dense = Dense(one, reference)
    for found, expected in zip(one.model(), dense.vectors(), strict=True):
        torch.testing.assert_close(found[1:].double(), expected, rtol=2e-4, atol=2e-5)
    rows, triples = one.triples()
    loss, expected_loss = one.model.calculate_loss(rows), dense.loss(triples)
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
    loss.backward()
    expected_loss.backward()
    for name, weight in one.model.named_parameters():
        theirs = dense.state[name].grad
        found = weight.grad if weight.grad is not None else torch.zeros_like(weight)
        expected = torch.zeros_like(dense.state[name]) if theirs is None else theirs
        torch.testing.assert_close(
            found.double(), expected, rtol=1e-3, atol=1e-6, msg=lambda m, n=name: n + m
        )


def test_the_graph_learns_at_the_first_step_of_an_epoch_and_stands_still_after(
    workshop: Any, opened: Any
) -> None:
    one = opened(workshop, "LATTICE")
    model, (rows, _) = one.model, one.triples()
    losses = []
    for epoch in range(2):
        model.train()  # as the suite's trainer and RecBole's do before every epoch
        for step in range(2):
            model.zero_grad()
            loss = model.calculate_loss(rows)
            loss.backward()
            losses.append(float(loss.detach()))
            learns = model.projections["text"].weight.grad is not None
            assert learns == (step == 0)
            with torch.no_grad():  # weights move; the graph of this epoch must not
                model.projections["text"].weight.add_(torch.randn(8, 16, generator=_generator(epoch)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[2] != pytest.approx(losses[1], rel=1e-6)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation made; a sparse one holds what is not zero."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else [found]:
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                self.elements = max(self.elements, tensor.numel())
        return found


def test_the_learnt_graph_is_never_all_pairs_at_once(workshop: Any, opened: Any) -> None:
    """Blocks of 1,024 rows are the largest thing that is made, forward and backward."""
    model, items = opened(workshop, "LATTICE").model, 6001
    model.n_items = items
    features = torch.randn(items, 16, generator=_generator(0), requires_grad=True)
    with Largest() as largest:
        _, values = model.similarities(features)
        values.sum().backward()
    assert largest.elements <= 1024 * items < items**2 / 5
    assert len(values) == 4 * (items - 1) and features.grad is not None


def test_scores_read_the_graph_of_the_present_weights(workshop: Any, opened: Any, reference: Any) -> None:
    one = opened(workshop, "LATTICE", skip_weight=0.1)
    rows, triples = one.triples()
    one.model.train()
    one.model.calculate_loss(rows)
    with torch.no_grad():
        one.model.projections["text"].weight.mul_(torch.randn(8, 16, generator=_generator(3)))
    one.model.eval()
    users, items = Dense(one, reference).vectors()
    scores = one.model.full_sort_predict(rows).view(len(rows), -1)[:, 1:]
    expected = users[triples[:, 0]] @ items.T
    torch.testing.assert_close(scores.double(), expected, rtol=2e-4, atol=1e-4)
