"""XSimGCL, SimGCL and SGL: the whole loss beside a slow one, and what tells the three apart."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.host.dataset import seen_ratings
from recbole_llmgraph.suite.run import make_model

NAMES = ("XSimGCL", "SimGCL", "SGL")


def made(workshop: Any, name: str, **changes: Any) -> tuple[Any, Any]:
    """Split and untrained model whose scores differ."""
    cell = workshop.cell(name, **changes)
    split = workshop.split(cell)
    model = make_model(cell, split)
    with torch.no_grad():
        model.nodes.weight.mul_(4)
    return split, model.train()


def batch(split: Any, size: int = 40) -> Any:
    return load_batch(split.train, np.random.default_rng(0).choice(len(split.dataset), size, replace=False))


def by_hand(model: Any, views: Any, users: Any, items: Any, negatives: Any) -> torch.Tensor:
    """Sum of BPR, contrast and penalty, a row and a node at a time, in float64."""
    options, offset = model.options, model.n_users
    final, anchor, other = (view.detach().double() for view in views)
    rows = list(zip(users.tolist(), items.tolist(), negatives.tolist(), strict=True))
    ranked = [
        -torch.log(1e-5 + torch.sigmoid(final[u] @ final[offset + p] - final[u] @ final[offset + n]))
        for u, p, n in rows
    ]
    total = torch.stack(ranked).mean()
    for nodes in (sorted({u for u, _, _ in rows}), sorted({offset + p for _, p, _ in rows})):
        losses = []
        for a in nodes:
            cosines = torch.stack([F.cosine_similarity(anchor[a], other[b], dim=0) for b in nodes])
            mine = F.cosine_similarity(anchor[a], other[a], dim=0)
            losses.append(torch.logsumexp(cosines / options.tau, 0) - mine / options.tau)
        reduced = torch.stack(losses)
        reduced = reduced.sum() if options.contrast_reduction == "sum" else reduced.mean()
        total = total + options.contrast_weight * reduced
    norms = sum(
        torch.stack([final[n] for n in part]).norm() for part in zip(*named(rows, offset), strict=True)
    )
    return total + options.reg_weight * norms / len(rows)


def named(rows: Any, offset: int) -> list[tuple[int, int]]:
    """User node and positive item node of each row."""
    return [(u, offset + p) for u, p, _ in rows]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_that_of_a_loop(name: str, reduction: str, workshop: Any) -> None:
    split, model = made(workshop, name, contrast_reduction=reduction, contrast_weight=0.3, reg_weight=0.5)
    rows = batch(split)
    users, items = rows["user_id"], rows["item_id"]
    state = torch.get_rng_state()
    mine = model.calculate_loss(rows)
    torch.set_rng_state(state)
    views = model.encoder(model.nodes.weight)
    negatives = model.drawn_items(users, items)[:, 1]
    torch.testing.assert_close(
        mine.double(), by_hand(model, views, users, items, negatives), rtol=1e-5, atol=0
    )


def test_simgcl_adds_up_by_default_and_xsimgcl_averages(workshop: Any) -> None:
    kinds = {name: workshop.cell(name).model.load().settings() for name in NAMES}
    assert {name: kind.contrast_reduction for name, kind in kinds.items()} == {
        "XSimGCL": "mean", "SimGCL": "sum", "SGL": "mean",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "propagations"), [("XSimGCL", 2), ("SimGCL", 3), ("SGL", 6)])
def test_how_often_a_step_propagates(
    name: str, propagations: int, workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XSimGCL reads everything from one pass of two layers; SimGCL's two noises share a third product."""
    from recbole_llmgraph.graph import sparse

    split, model = made(workshop, name, n_layers=2)
    rows, count = batch(split), 0
    original = sparse.compressed_product

    def counted(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        return original(*arguments)

    monkeypatch.setattr(sparse, "compressed_product", counted)
    model.calculate_loss(rows)
    assert count == propagations


@pytest.mark.parametrize("protocol", ["seq", "sign"])
def test_negatives_were_never_met_liked_or_not(protocol: str, workshop: Any) -> None:
    split, model = made(workshop, "XSimGCL", protocol=protocol)
    users = torch.arange(1, split.n_users).repeat(40)
    drawn = model.drawn_items(users, torch.ones_like(users))[:, 1]
    assert drawn.min() >= 1
    met = set(zip(*(ids.tolist() for ids in split.seen_pairs), strict=True))
    assert not met & set(zip(users.tolist(), drawn.tolist(), strict=True))
    seen = seen_ratings(split.dataset)
    assert (seen is None) == (protocol == "seq")
    if seen is not None:
        assert (seen.values < 4).any()


def test_sgl_draws_its_graphs_when_an_epoch_begins(workshop: Any) -> None:
    _, model = made(workshop, "SGL", edge_drop=0.3)
    first = [graph.cols for graph in model.encoder.graphs]
    model.train()
    assert any(not torch.equal(a, b.cols) for a, b in zip(first, model.encoder.graphs, strict=True))
    again = [graph.cols for graph in model.encoder.graphs]
    model.eval()
    assert all(torch.equal(a, b.cols) for a, b in zip(again, model.encoder.graphs, strict=True))


@pytest.mark.parametrize("name", [*NAMES, "NCL", "RLMRec", "LAGCL4Rec"])
def test_users_and_items_begin_as_two_xavier_tables(name: str, workshop: Any) -> None:
    """One table of all nodes would make every vector shorter, which noise of a fixed length feels."""
    cell = workshop.provided(workshop.cell(name))
    model = make_model(cell, workshop.split(cell))
    for side in model.nodes.weight.split([model.n_users, model.n_items]):
        bound = (6 / sum(side.shape)) ** 0.5
        assert 0.97 * bound < float(side.abs().max()) <= bound
