"""NCL beside loops: the whole loss, when and how clusters are made, what is kept in between."""

from typing import Any

import numpy as np
import pytest
import torch

from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.loss.cross_entropy import item_cross_entropy
from recbole_llmgraph.model.baseline.ncl import k_means
from recbole_llmgraph.suite.run import make_model


def made(workshop: Any, **changes: Any) -> tuple[Any, Any]:
    """Split and untrained model whose scores differ, at the beginning of its second epoch."""
    cell = workshop.cell("NCL", **changes)
    split = workshop.split(cell)
    model = make_model(cell, split)
    with torch.no_grad():
        model.nodes.weight.mul_(4)
    model.train()
    model.start_epoch(1)
    return split, model


def batch(split: Any, size: int = 40) -> Any:
    return load_batch(split.train, np.random.default_rng(0).choice(len(split.dataset), size, replace=False))


def cosines(row: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Cosine of one row with each of the others."""
    return others @ row / (np.linalg.norm(row) * np.linalg.norm(others, axis=1))


def minus_log_share(values: np.ndarray, place: int, tau: float) -> float:
    return float(np.log(np.exp(values / tau).sum()) - values[place] / tau)


def by_hand(split: Any, model: Any, rows: Any, negatives: Any, some: Any, reference: Any) -> float:
    """BPR, penalty, S and P (of `some` rows), a row at a time, in float64; nodes without padding."""
    options, U = model.options, split.n_users - 1
    x = model.nodes.weight.detach().double().numpy()
    x = np.concatenate([x[1 : U + 1], x[U + 2 :]])
    A = np.zeros((U, split.n_items - 1))
    A[tuple(ids - 1 for ids in split.training_pairs)] = 1
    P = reference.symmetric(reference.joined(A))
    layers = [x]
    for _ in range(max(options.n_layers, 2 * options.hops)):
        layers.append(P @ layers[-1])
    final, context = np.mean(layers[: options.n_layers + 1], axis=0), layers[2 * options.hops]
    ids = np.stack([rows["user_id"].numpy() - 1, U + rows["item_id"].numpy() - 1, U + negatives.numpy() - 1])
    loss = reference.bpr(*(final[column] for column in ids))
    squares = [np.square(x[column]).sum() for column in ids]
    norms = sum(squares) / 2 if options.require_pow else sum(map(np.sqrt, squares))
    loss += options.reg_weight * norms / len(rows)
    ids, scale = ids[:, some], len(rows) / len(some)
    state = {name: value.double().numpy() for name, value in model.state_dict().items()}
    sides = ((x[:U], 0, ids[0], 1.0, "user"), (x[U:], U, ids[1], options.item_weight, "item"))
    for center, start, column, share, name in sides:
        clusters, centroids = state[f"{name}_clusters"].astype(int), state[f"{name}_centroids"]
        S = [minus_log_share(cosines(context[b], center), b - start, options.tau) for b in column]
        summed = options.contrast_reduction == "sum"
        loss += options.contrast_weight * share * np.mean(S) * (scale * len(S) if summed else 1)
        if model._epoch >= options.warm_up:
            rows_of = [(x[b], clusters[b - start + 1]) for b in column]
            prototypes = [minus_log_share(cosines(row, centroids), own, options.tau) for row, own in rows_of]
            loss += options.prototype_weight * np.mean(prototypes) * (scale * len(S) if summed else 1)
    return float(loss)


@pytest.mark.parametrize(
    "changes",
    [
        {"contrast_weight": 0.01, "prototype_weight": 0.02, "item_weight": 0.5},
        {"contrast_weight": 0.3, "prototype_weight": 0.2, "contrast_reduction": "mean", "require_pow": False},
        {"contrast_weight": 0.01, "prototype_weight": 0.02, "contrast_rows": 9},
        {"hops": 2, "n_layers": 1, "warm_up": 5, "contrast_weight": 0.01},
    ],
)
def test_the_loss_is_that_of_a_loop(changes: dict[str, Any], workshop: Any, reference: Any) -> None:
    split, model = made(workshop, reg_weight=0.1, **changes)
    rows = batch(split)
    assert len(rows["item_id"].unique()) < len(rows)  # some are named twice
    state = torch.get_rng_state()
    mine = float(model.calculate_loss(rows))
    torch.set_rng_state(state)
    negatives = model.drawn_items(rows["user_id"], rows["item_id"])[:, 1]
    drawn = torch.randperm(len(rows)).numpy()[: model.options.contrast_rows or len(rows)]
    assert mine == pytest.approx(by_hand(split, model, rows, negatives, drawn, reference), rel=1e-4)


def test_weights_are_repeats(workshop: Any) -> None:
    torch.manual_seed(0)
    states, table = torch.randn(5, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
    targets, counts = torch.tensor([1, 8, 0, 3, 3]), torch.tensor([1, 3, 2, 1, 4])
    once = item_cross_entropy(states, table, targets, weights=counts.float())
    again = item_cross_entropy(states.repeat_interleave(counts, 0), table, targets.repeat_interleave(counts))
    torch.testing.assert_close(once, again)
    for mine, theirs in zip(
        torch.autograd.grad(once, (states, table)), torch.autograd.grad(again, (states, table)), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_clusters_are_made_every_mth_epoch_after_the_warm_up(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = workshop.cell("NCL", warm_up=3, m_step=2)
    split = workshop.split(cell)
    model, found = make_model(cell, split), []
    monkeypatch.setattr(model, "e_step", lambda: found.append(model._epoch))
    for epoch in range(8):
        model.train()
        model.start_epoch(epoch)
        for _ in range(2):
            model.calculate_loss(batch(split))
        model.eval()
    assert found == [3, 4, 6]
    found.clear()
    fresh = make_model(cell, split)
    monkeypatch.setattr(fresh, "e_step", lambda: found.append(fresh._epoch))
    for _ in range(5):  # a trainer that tells no epochs
        fresh.train()
        fresh.calculate_loss(batch(split))
        fresh.eval()
    assert found == [3, 4]


def test_k_means_finds_planted_clusters_and_its_seed_decides() -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(6, 8)) * 10
    rows = (np.repeat(centers, 50, axis=0) + rng.normal(size=(300, 8)) * 0.1).astype(np.float32)
    centroids, labels = k_means(rows, 6, seed=4)
    assert centroids.dtype == np.float32 and labels.shape == (300,)
    for cluster in range(6):
        assert len(set(labels[cluster * 50 : cluster * 50 + 50])) == 1
    nearest = np.square(rows[:, None] - centroids[None]).sum(2).argmin(1)
    assert (nearest == labels).all()
    again = k_means(rows, 6, seed=4)
    assert all(np.array_equal(a, b) for a, b in zip((centroids, labels), again, strict=True))


def test_every_node_belongs_to_its_nearest_prototype(workshop: Any) -> None:
    split, model = made(workshop)
    model.calculate_loss(batch(split))
    torch.testing.assert_close(model.item_centroids.norm(dim=1), torch.ones(6))
    assert set(model.item_clusters[1:].tolist()) <= set(range(6))
    own = model.item_centroids[model.item_clusters[1:]]
    rows = model.nodes.weight[split.n_users + 1 :]
    similar = torch.cosine_similarity(rows, own)
    assert similar.mean() > torch.cosine_similarity(rows, own.roll(7, 0)).mean() + 0.2


def test_prototypes_are_kept_between_two_clusterings(workshop: Any) -> None:
    """Made in epochs 1, 2 and 4 (from 0); the contract test resumes after 1, 3 and 5, in between too."""
    whole = workshop.reference("NCL")
    assert whole.cell.settings.m_step == 2 and whole.progress.epochs_run == 6
    kept = []
    for epochs in (1, 3, 4, 5):
        state = torch.load(workshop.snapshots("NCL") / f"{epochs}.pt", weights_only=True)["model"]
        kept.append(torch.cat([state["user_centroids"], state["item_centroids"]]))
    assert not kept[0].any() and kept[1].any()
    assert torch.equal(kept[1], kept[2]) and not torch.equal(kept[2], kept[3])
