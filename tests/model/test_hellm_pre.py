"""HeLLM's graph stage against dense matrices and loops, written from the paper's equations (SPEC 3.1)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_llmgraph.artifact.tables import load_table, save_table
from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.features import read_feature
from recbole_llmgraph.model import hellm_pre
from recbole_llmgraph.suite.run import make_model

CASES: dict[str, dict[str, Any]] = {
    "released": {},
    "other depths": {"n_layers": 1, "user_layers": 3, "item_layers": 2},
    "no layers": {"n_layers": 0, "user_layers": 0, "item_layers": 0},
    "trainable hyperedges": {"hyperedge_weight": "trainable"},
    "other weights": {"alpha": 0.3, "beta": 0.7, "tau": 0.2, "reg_weight": 0.5, "knn_k": 7},
    "no_u2u": {"use_u2u": False},
    "no_i2i": {"use_i2i": False},
    "no_cl": {"use_cl": False},
    "neither hypergraph": {"use_u2u": False, "use_i2i": False},
    "one neighbour, itself": {"knn_k": 1},
    "as printed": {"fidelity": "paper"},
    "as printed, trainable": {"fidelity": "paper", "hyperedge_weight": "trainable"},
}


class Dense:
    """The model's numbers from dense float64 matrices. U users and N items without padding."""

    def __init__(self, model: Any, split: Any, miniature: Any) -> None:
        self.options = model.options
        dataset = split.dataset
        self.U, self.N = split.n_users - 1, split.n_items - 1
        A = np.zeros((self.U, self.N))
        for user, part in miniature.parts().items():
            for item in part["train"]:
                A[dataset.token2id("user_id", user) - 1, dataset.token2id("item_id", item) - 1] = 1
        self.A = A
        self.tokens = split.item_tokens()[1:]
        state = {name: weight.double().numpy() for name, weight in model.state_dict().items()}
        self.state = state
        self.modalities = self._modalities()
        self.user_weight = np.exp(state.get("user_weight_log", np.zeros(self.N + 1))[1:])  # padding has one
        self.item_weight = np.exp(state.get("item_weight_log", np.zeros(self.N * len(self.modalities))))

    def _modalities(self) -> list[np.ndarray]:
        """Binary kNN incidence of each modality, self included. `[N, N]` each"""
        found = []
        if self.options.use_i2i:
            table = load_table(self.options.text_features)
            found.append(self._nearest({t: r for t, r in zip(table.tokens, table.rows.numpy(), strict=True)}))
            if self.options.image_features:
                feature = read_feature(self.options.image_features)
                found.append(self._nearest(dict(zip(feature.tokens, feature.rows, strict=True))))
        return found

    def _nearest(self, rows: dict[str, np.ndarray]) -> np.ndarray:
        incidence = np.zeros((self.N, self.N))
        for place, token in enumerate(self.tokens):
            cosine = []
            for other, other_token in enumerate(self.tokens):
                a, b = rows[token].astype(np.float64), rows[other_token].astype(np.float64)
                size = np.linalg.norm(a) * np.linalg.norm(b)
                cosine.append((3.0 if other == place else (a @ b / size if size else 0.0), -other))
            best = sorted(cosine, reverse=True)[: self.options.knn_k]
            for _, other in best:
                incidence[place, -other] = 1
        return incidence

    def bipartite(self) -> tuple[np.ndarray, np.ndarray]:
        zero = np.zeros
        A = np.block([[zero((self.U, self.U)), self.A], [self.A.T, zero((self.N, self.N))]])
        degree = A.sum(1)
        scale = np.where(degree > 0, 1 / np.sqrt(np.where(degree > 0, degree, 1)), 0)
        layer = np.concatenate([self.state["user_nodes.weight"][1:], self.state["item_nodes.weight"][1:]])
        layers = [layer]
        for _ in range(self.options.n_layers):
            layer = (scale[:, None] * A * scale) @ layer
            layers.append(layer)
        mean = np.mean(layers, axis=0)
        return mean[: self.U], mean[self.U :]

    def user_view(self) -> np.ndarray:
        P = self.A @ np.diag(self.user_weight) @ self.A.T
        if self.options.fidelity == "paper":
            scale = 1 / np.sqrt(P.sum(1))
            P = scale[:, None] * P * scale
        else:
            P = P - np.diag(np.diag(P))
            row = P.sum(1, keepdims=True)
            P = np.divide(P, row, out=np.zeros_like(P), where=row > 1e-12)
        return np.linalg.matrix_power(P, self.options.user_layers) @ self.state["user_view.weight"][1:]

    def item_view(self) -> np.ndarray:
        incidence = np.concatenate(self.modalities, axis=1)
        P = incidence @ np.diag(self.item_weight) @ incidence.T
        scale = 1 / np.sqrt(P.sum(1))
        P = scale[:, None] * P * scale
        return np.linalg.matrix_power(P, self.options.item_layers) @ self.state["item_view.weight"][1:]

    def fused(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
        users, items = self.bipartite()
        user_view = item_view = None
        if self.options.use_u2u:
            user_view = self.user_view()
            users = users + unit(user_view)
        if self.options.use_i2i:
            item_view = self.item_view()
            items = items + unit(item_view)
        return users, items, user_view, item_view

    def loss(self, triples: list[tuple[int, int, int]]) -> float:
        """Loss of triples of internal ids (padding is 0)."""
        users, items, user_view, item_view = self.fused()
        ranking, size = 0.0, 0.0
        for u, p, n in triples:
            eu, ep, en = users[u - 1], items[p - 1], items[n - 1]
            ranking += -np.log(1 / (1 + np.exp(-(eu @ ep - eu @ en))))
            size += eu @ eu + ep @ ep + en @ en
        B = len(triples)
        total = ranking / B + self.options.reg_weight / (2 * B) * size
        if self.options.use_cl and user_view is not None:
            total += self.options.alpha * contrast(users, user_view, self.options)
        if self.options.use_cl and item_view is not None:
            total += self.options.beta * contrast(items, item_view, self.options)
        return total


def unit(rows: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, size, out=np.zeros_like(rows), where=size > 0)


def contrast(z: np.ndarray, h: np.ndarray, options: Any) -> float:
    """CL(z, h): one anchor after the other, one key after the other."""
    z, h, tau = unit(z), unit(h), options.tau
    total = 0.0
    for x in range(len(z)):
        denominator = 0.0
        for y in range(len(z)):
            denominator += np.exp(z[x] @ h[y] / tau)
            if y != x or options.fidelity == "paper":  # eq. 7 as printed
                denominator += np.exp(z[x] @ z[y] / tau)
        total += -np.log(np.exp(z[x] @ h[x] / tau) / denominator)
    return total / len(z)


def opened(workshop: Any, **changes: Any) -> tuple[Any, Any]:
    """Model with weights far from their small initial values, and its split."""
    cell = workshop.provided(workshop.cell("HeLLMPre", **{"cl_scope": "full", "reg_weight": 0.01, **changes}))
    split = workshop.split(cell)
    model = make_model(cell, split)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    return model, split


def triples_of(split: Any, count: int = 9) -> tuple[Any, list[tuple[int, int, int]]]:
    rng = np.random.default_rng(2)
    ids = np.stack(
        [rng.integers(1, split.n_users, count), *(rng.integers(1, split.n_items, count) for _ in range(2))]
    )
    fields = ("user_id", "item_id", "neg_item_id")
    rows = Interaction({name: torch.from_numpy(column) for name, column in zip(fields, ids, strict=True)})
    return rows, [(int(u), int(p), int(n)) for u, p, n in ids.T]


@pytest.fixture(scope="module", params=["text", "text and images", "text, with repeats"])
def place(request: pytest.FixtureRequest, workshop: Any, make_workshop: Any) -> Any:
    if request.param == "text":
        return workshop
    return make_workshop(images="images" in request.param, repeats="repeats" in request.param)


@pytest.mark.parametrize("case", CASES)
def test_vectors_and_loss_are_the_equations(case: str, place: Any) -> None:
    model, split = opened(place, **CASES[case])
    dense = Dense(model, split, place.miniature)
    users, items, user_view, item_view = model()
    for found, expected in zip((users, items, user_view, item_view), dense.fused(), strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            np.testing.assert_allclose(found.detach()[1:].numpy(), expected, rtol=2e-4, atol=2e-5)
    rows, triples = triples_of(split)
    assert float(model.calculate_loss(rows)) == pytest.approx(dense.loss(triples), rel=1e-5)


def test_images_stand_beside_text_as_hyperedges_of_their_own(make_workshop: Any) -> None:
    model, split = opened(make_workshop(images=True))
    assert model.item_hypergraph.n_hyperedges == 2 * (split.n_items - 1)
    alone, _ = opened(make_workshop())
    assert alone.item_hypergraph.n_hyperedges == split.n_items - 1


def test_switches_take_out_one_thing_each(workshop: Any) -> None:
    """Fusion stays when the contrastive loss goes; each view goes with its hypergraph."""
    rows, _ = triples_of(opened(workshop)[1])
    tables = {case: opened(workshop, **CASES[case])[0] for case in ("released", "no_cl", "no_u2u", "no_i2i")}
    assert {n for n, _ in tables["no_cl"].named_parameters()} == {
        n for n, _ in tables["released"].named_parameters()
    }
    assert not hasattr(tables["no_u2u"], "user_view") and hasattr(tables["no_u2u"], "item_view")
    assert not hasattr(tables["no_i2i"], "item_view") and hasattr(tables["no_i2i"], "user_view")
    tables["no_cl"].load_state_dict(tables["released"].state_dict())
    with_cl, without = tables["released"](), tables["no_cl"]()
    assert torch.equal(with_cl[0], without[0]) and torch.equal(with_cl[1], without[1])
    assert float(tables["no_cl"].calculate_loss(rows)) < float(tables["released"].calculate_loss(rows))


def test_alpha_of_zero_keeps_the_users_view(workshop: Any) -> None:
    """In the release alpha 0 also removes the fusion; here `use_u2u` does that, and alpha weighs a loss."""
    model, split = opened(workshop, alpha=0.0, beta=0.0)
    dense = Dense(model, split, workshop.miniature)
    np.testing.assert_allclose(model()[0].detach()[1:].numpy(), dense.fused()[0], rtol=2e-4, atol=2e-5)
    rows, triples = triples_of(split)
    assert float(model.calculate_loss(rows)) == pytest.approx(dense.loss(triples), rel=1e-5)


def test_hyperedge_weights_learn_and_start_at_the_identity(workshop: Any) -> None:
    cell = workshop.provided(workshop.cell("HeLLMPre", hyperedge_weight="trainable"))
    split = workshop.split(cell)
    weighed = make_model(cell, split)
    assert float(weighed.user_weight_log.abs().max()) == float(weighed.item_weight_log.abs().max()) == 0
    plain, _ = opened(workshop)
    plain.load_state_dict(weighed.state_dict(), strict=False)
    for a, b in zip(plain(), weighed(), strict=True):
        torch.testing.assert_close(a, b)
    weighed.calculate_loss(triples_of(split)[0]).backward()
    for weight in (weighed.user_weight_log, weighed.item_weight_log):
        assert weight.grad is not None and float(weight.grad.abs().sum()) > 0


# -- cl_scope: batch -----------------------------------------------------------------------


def drawn(model: Any, rows: Any, seed: int) -> tuple[float, torch.Tensor]:
    """Loss and gradient of one table with the anchors that this seed draws."""
    torch.manual_seed(seed)
    model.zero_grad()
    loss = model.calculate_loss(rows)
    loss.backward()
    return float(loss.detach()), model.item_view.weight.grad.clone()


def test_anchors_of_a_batch_estimate_the_full_loss_without_bias(workshop: Any) -> None:
    full, split = opened(workshop)
    batch, _ = opened(workshop, cl_scope="batch", cl_anchors=8)
    batch.load_state_dict(full.state_dict())
    rows, _ = triples_of(split)
    exact, gradient = drawn(full, rows, 0)
    draws = [drawn(batch, rows, seed) for seed in range(120)]
    values = np.array([value for value, _ in draws])
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - exact) < 4 * error
    assert 0 < error < 0.03 * abs(exact)
    stack = torch.stack([g for _, g in draws])
    expected = float(stack.var(0).sum()) / len(draws)  # of |mean - gradient|^2, when unbiased
    assert float((stack.mean(0) - gradient).square().sum()) < 4 * expected
    assert expected < 0.1 * float(gradient.square().sum())


def test_every_node_is_as_likely_an_anchor_as_any_other(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, split = opened(workshop, cl_scope="batch", cl_anchors=8)
    rows, _ = triples_of(split)
    drawn_ids: list[torch.Tensor] = []

    def record(anchors: torch.Tensor, z: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        drawn_ids.append(anchors)
        return z.new_zeros(())

    monkeypatch.setattr(hellm_pre, "cross_view_infonce", record)
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(400):
            batch.calculate_loss(rows)
    for nodes, ids in ((split.n_users - 1, drawn_ids[0::2]), (split.n_items - 1, drawn_ids[1::2])):
        assert all(len(set(draw.tolist())) == 8 for draw in ids)
        counts = torch.cat(ids).bincount(minlength=nodes).double()
        expected = 400 * 8 / nodes
        assert len(counts) == nodes
        assert float(((counts - expected) ** 2 / expected).sum()) < nodes + 5 * (2 * nodes) ** 0.5


def test_anchors_know_nothing_of_the_triples(workshop: Any) -> None:
    """The contrastive part is the same whichever triples come: popular users are no likelier anchors."""
    batch, split = opened(workshop, cl_scope="batch", cl_anchors=8, reg_weight=0.0)
    bare, _ = opened(workshop, use_cl=False, reg_weight=0.0)
    bare.load_state_dict(batch.state_dict())
    rows, _ = triples_of(split, 9)
    others, _ = triples_of(split, 4)
    parts = []
    for triples in (rows, others):
        torch.manual_seed(3)
        parts.append(float(batch.calculate_loss(triples)) - float(bare.calculate_loss(triples)))
    assert parts[0] == pytest.approx(parts[1], rel=1e-5)


def test_more_anchors_than_nodes_are_all_nodes(workshop: Any) -> None:
    full, split = opened(workshop)
    batch, _ = opened(workshop, cl_scope="batch", cl_anchors=10_000)
    batch.load_state_dict(full.state_dict())
    rows, _ = triples_of(split)
    assert float(batch.calculate_loss(rows)) == float(full.calculate_loss(rows))


# -- scoring and mistakes ------------------------------------------------------------------


def test_scores_are_dot_products_of_fused_vectors(workshop: Any) -> None:
    model, split = opened(workshop)
    users, items, _, _ = Dense(model, split, workshop.miniature).fused()
    rows, triples = triples_of(split)
    model.eval()
    expected = [users[u - 1] @ items[p - 1] for u, p, _ in triples]
    np.testing.assert_allclose(model.predict(rows).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    table = model.item_table()
    np.testing.assert_allclose(table[1:].numpy(), items, rtol=2e-4, atol=2e-5)
    assert float(table[0].abs().sum()) == 0


def test_loading_other_weights_forgets_the_tables_kept_for_scoring(workshop: Any) -> None:
    model, split = opened(workshop)
    rows, _ = triples_of(split)
    model.eval()
    with torch.no_grad():
        before = model.predict(rows)
        assert torch.equal(model.predict(rows), before)
        model.load_state_dict({name: 2 * weight for name, weight in model.state_dict().items()})
        assert not torch.equal(model.predict(rows), before)


def test_items_without_text_are_similar_to_nothing(workshop: Any, tmp_path: Path) -> None:
    """A zero row has no neighbours but itself, and no NaN comes of it."""
    cell = workshop.provided(workshop.cell("HeLLMPre"))
    table = load_table(cell.settings.text_features)
    rows = table.rows.clone()
    rows[:5] = 0
    save_table(tmp_path / "holes.safetensors", table.tokens, rows, table.meta)
    settings = cell.settings.model_copy(update={"text_features": str(tmp_path / "holes.safetensors")})
    split = workshop.split(cell)
    holed = replace(cell, settings=settings)
    model = make_model(holed, workshop.split(holed))
    loss = model.calculate_loss(triples_of(split)[0])
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert all(bool(torch.isfinite(weight.grad).all()) for weight in model.parameters())
    for number in (split.dataset.token2id("item_id", token) for token in table.tokens[:5]):
        incidence = model.item_hypergraph.incidence
        row = torch.zeros(incidence.size[0], 1)
        row[number] = 1
        assert incidence.transposed(row).nonzero()[:, 0].tolist() == [number - 1]


def test_missing_text_vectors_are_a_users_error(workshop: Any) -> None:
    cell = workshop.cell("HeLLMPre")  # nothing provided
    with pytest.raises(
        UserError, match=r"HeLLMPre needs text_features .*recbole_settings.* or set use_i2i=False"
    ):
        make_model(cell, workshop.split(cell))


def test_more_neighbours_than_items_are_a_users_error(workshop: Any) -> None:
    cell = workshop.provided(workshop.cell("HeLLMPre", knn_k=49))
    with pytest.raises(UserError, match="knn_k=49: there are 48 items"):
        make_model(cell, workshop.split(cell))
