"""LLM-PNGNN beside dense matrices and loops: graphs, attention, loss, negatives, and what gets a gradient."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.host.dataset import seen_ratings
from recbole_llmgraph.model.llmpngnn import LLMPNGNN, LLMPNGNNSettings
from recbole_llmgraph.suite.cell import choose_protocol
from recbole_llmgraph.suite.run import make_model


def made(workshop: Any, **changes: Any) -> tuple[Any, Any, Any]:
    """Cell, split and untrained model without edges."""
    cell = workshop.cell("LLMPNGNN", **{"oracle": "off", **changes})
    split = workshop.split(cell)
    return cell, split, make_model(cell, split)


def batch(split: Any, size: int = 24) -> Any:
    rows = np.random.default_rng(0).choice(len(split.dataset), size, replace=False)
    return load_batch(split.train, rows)


def dense_mean(split: Any, pairs: list[tuple[int, int]], table: torch.Tensor, layers: int) -> torch.Tensor:
    """Mean over layers of (D^-1/2 A D^-1/2)^l E, by a dense matrix."""
    nodes = split.n_users + split.n_items
    A = torch.zeros(nodes, nodes, dtype=torch.float64)
    for user, item in pairs:
        A[user, split.n_users + item] = A[split.n_users + item, user] = 1
    d = A.sum(1)
    scale = torch.where(d > 0, d, torch.ones_like(d)).rsqrt() * (d > 0)
    A = scale[:, None] * A * scale[None, :]
    out = [table.double()]
    for _ in range(layers):
        out.append(A @ out[-1])
    return torch.stack(out).mean(0)


def graphs(split: Any, above: float = 3.5) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Liked and disliked pairs among the rows that are learnt."""
    inter = split.dataset.inter_feat
    rows = zip(*(inter[name].tolist() for name in ("user_id", "item_id", "rating")), strict=True)
    triples = list(rows)
    return [(u, i) for u, i, r in triples if r > above], [(u, i) for u, i, r in triples if r <= above]


@pytest.mark.parametrize("layers", [0, 1, 4])
def test_branches_are_means_of_two_light_gcns(layers: int, workshop: Any) -> None:
    _, split, model = made(workshop, n_layers=layers)
    model.eval()
    with torch.no_grad():
        z, v, _ = model.forward()
    liked, disliked = graphs(split)
    assert liked and disliked
    torch.testing.assert_close(z.double(), dense_mean(split, liked, model.liked_nodes.weight, layers))
    torch.testing.assert_close(v.double(), dense_mean(split, disliked, model.disliked_nodes.weight, layers))


def test_a_threshold_moves_ratings_between_the_graphs(workshop: Any) -> None:
    _, split, model = made(workshop, liked_above=4.5)
    liked, disliked = graphs(split, 4.5)
    assert len(model.likes.values) == 2 * len(liked) and len(model.dislikes.values) == 2 * len(disliked)


def attention_by_hand(model: Any, z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Softmax over q' tanh(W z + c), a node at a time."""
    W, c, q = model.attention.weight, model.attention.bias, model.query.weight[0]
    rows = []
    for zp, vn in zip(z, v, strict=True):
        w = [float(q @ torch.tanh(W @ x + c)) for x in (zp, vn)]
        top = [math.exp(value - max(w)) for value in w]
        rows.append(top[0] / sum(top) * zp + top[1] / sum(top) * vn)
    return torch.stack(rows)


def test_attention_is_a_softmax_shared_by_all_nodes(workshop: Any) -> None:
    _, _, model = made(workshop)
    torch.nn.init.normal_(model.query.weight, std=3.0)  # weights that differ from node to node
    model.eval()
    with torch.no_grad():
        z, v = (30 * x for x in model.forward()[:2])
        torch.testing.assert_close(model._fuse(z, v), attention_by_hand(model, z, v), rtol=1e-4, atol=1e-5)
        spread = model.query(torch.tanh(model.attention(z)) - torch.tanh(model.attention(v)))
    assert float(spread.std()) > 0.1


def test_attention_drops_out_in_training_alone(workshop: Any) -> None:
    _, _, model = made(workshop)
    with torch.no_grad():
        model.train()
        assert not torch.equal(model.forward()[2], model.forward()[2])
        model.eval()
        assert torch.equal(model.forward()[2], model.forward()[2])


def log_sigma(x: torch.Tensor) -> torch.Tensor:
    return -torch.log1p(torch.exp(-x))


def loss_by_hand(model: Any, rows: Any, negatives: torch.Tensor) -> torch.Tensor:
    """Equation 10 and its regulariser, a triple at a time, in float64."""
    options, offset = model.options, model.n_users
    tables = {name: table.double() for name, table in zip(("z", "v", "fused"), model.forward(), strict=True)}
    total = torch.zeros((), dtype=torch.float64)
    squares = torch.zeros((), dtype=torch.float64)
    named: list[int] = []
    for user, item, rating, drawn in zip(
        rows["user_id"].tolist(),
        rows["item_id"].tolist(),
        rows["rating"].tolist(),
        negatives.tolist(),
        strict=True,
    ):
        liked = rating > options.liked_above
        branch = tables["z"] if liked else tables["v"]
        spaces = {"branch": [branch], "fused": [tables["fused"]], "both": [branch, tables["fused"]]}
        for x in spaces[options.loss_on]:
            for j in drawn:
                own, other = x[user] @ x[offset + item], x[user] @ x[offset + j]
                gap = other - options.b * own if options.disliked == "below" else options.b * own - other
                total = total - log_sigma(own - other if liked else gap)
        named += [user, offset + item, *(offset + j for j in drawn)]
    for node in named if options.reg_rows == "draws" else sorted(set(named)):
        for table in (model.liked_nodes.weight, model.disliked_nodes.weight):
            squares = squares + table[node].double().square().sum()
    return total + options.reg_weight * squares


@pytest.mark.parametrize(("disliked", "reg_rows"), [("below", "draws"), ("below", "once"), ("above", "once")])
@pytest.mark.parametrize("loss_on", ["branch", "fused", "both"])
def test_loss_and_gradients_are_those_of_a_loop(
    loss_on: str, disliked: str, reg_rows: str, workshop: Any
) -> None:
    changes = {"loss_on": loss_on, "disliked": disliked, "reg_rows": reg_rows}
    _, split, model = made(workshop, **changes, reg_weight=0.05, b=1.7)
    model.eval()  # no dropout
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)  # scores that differ
    rows = batch(split)
    state = torch.get_rng_state()
    mine = model.calculate_loss(rows)
    torch.set_rng_state(state)
    negatives = model.negatives(rows["user_id"], model.options.n_negatives)
    theirs = loss_by_hand(model, rows, negatives)
    torch.testing.assert_close(mine.double(), theirs, rtol=1e-5, atol=0.0)
    weights = [model.liked_nodes.weight, model.disliked_nodes.weight]
    found = [torch.autograd.grad(loss, weights) for loss in (mine, theirs)]
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("loss_on", "trained"), [("branch", False), ("fused", True), ("both", True)])
def test_the_literal_equation_gives_the_attention_no_gradient(
    loss_on: str, trained: bool, workshop: Any, tmp_path: Path
) -> None:
    cell, split, model = made(workshop, loss_on=loss_on, epochs=1)
    model.train()
    model.calculate_loss(batch(split)).backward()
    attention = [*model.attention.parameters(), *model.query.parameters()]
    reached = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in attention]
    assert all(reached) if trained else not any(reached)
    for table in (model.liked_nodes, model.disliked_nodes):
        assert float(table.weight.grad.abs().sum()) > 0
    before = [p.detach().clone() for p in attention]
    workshop.fit(cell, split, model, tmp_path)
    moved = [not torch.equal(a, b) for a, b in zip(before, attention, strict=True)]
    assert all(moved) if trained else not any(moved)


def test_padding_is_in_no_graph_and_never_drawn(workshop: Any) -> None:
    _, split, model = made(workshop)
    for matrix in (model.likes, model.dislikes):
        for node in (0, split.n_users):
            assert matrix.rows[node] == matrix.rows[node + 1]
    drawn = model.negatives(torch.arange(1, split.n_users), 200)
    assert int(drawn.min()) >= 1


def test_negatives_follow_training_degrees_and_avoid_every_rated_item(workshop: Any) -> None:
    """Of either sign; degrees count the ratings, not the oracle's edges."""
    _, split, model = made(workshop)
    seen = seen_ratings(split.dataset)
    assert seen is not None
    degree = np.bincount(seen.items, minlength=split.n_items).astype(float)
    torch.manual_seed(0)
    for user in (1, 2):
        own = set(seen.items[seen.users == user].tolist())
        drawn = np.bincount(model.negatives(torch.tensor([user]), 60_000)[0], minlength=split.n_items)
        weight = np.array(
            [0 if j in own or degree[j] == 0 else degree[j] ** 0.75 for j in range(split.n_items)]
        )
        assert drawn[weight == 0].sum() == 0
        assert drawn / drawn.sum() == pytest.approx(weight / weight.sum(), abs=0.006)


def edges_of(workshop: Any, path: Path, lines: list[str]) -> tuple[Any, Any]:
    path.write_text("".join(f"{line}\n" for line in lines))
    cell = workshop.cell("LLMPNGNN", oracle="off")
    cell = replace(cell, settings=cell.settings.model_copy(update={"edges": str(path)}))
    split = workshop.split(cell)
    return split, make_model(cell, split)


def test_edges_join_the_graphs_and_change_no_degree(workshop: Any, tmp_path: Path) -> None:
    _, plain, model = made(workshop)
    seen = seen_ratings(plain.dataset)
    assert seen is not None
    own = set(seen.items[seen.users == 1].tolist())
    liked, disliked = [item for item in range(1, plain.n_items) if item not in own][:2]
    user = plain.dataset.field2id_token["user_id"][1]
    tokens = plain.item_tokens()
    split, augmented = edges_of(
        workshop, tmp_path / "edges.tsv", [f"{user}\t{tokens[liked]}\t5", f"{user}\t{tokens[disliked]}\t1"]
    )
    assert len(augmented.likes.values) == len(model.likes.values) + 2
    assert len(augmented.dislikes.values) == len(model.dislikes.values) + 2
    assert torch.equal(augmented.negatives.ends, model.negatives.ends)
    torch.manual_seed(0)
    drawn = set(augmented.negatives(torch.tensor([1]), 5000)[0].tolist())
    assert not drawn & {liked, disliked} and not drawn & own
    assert (
        split.training_matrix[1, liked] == split.training_matrix[1, disliked] == 0
    )  # still to be recommended


# -- settings ------------------------------------------------------------------------------


def test_an_unknown_oracle_is_refused() -> None:
    with pytest.raises(UserError, match=r"LLMPNGNNSettings.oracle='gpt': .*expected one of off, heuristic"):
        LLMPNGNNSettings.read({"oracle": "gpt"})
    with pytest.raises(UserError, match="max_cots"):
        LLMPNGNNSettings.read({"oracle_options": {"max_cots": 5}})
    for oracle in ("openai:some-model", "hf:path:/somewhere", "replay:answers.jsonl", "popularity"):
        assert LLMPNGNNSettings.read({"oracle": oracle}).oracle == oracle
    assert LLMPNGNNSettings.read({"oracle": False}).oracle == "off"  # a bare `off` in yaml


def test_without_ratings_it_says_what_to_type(workshop: Any) -> None:
    cell = workshop.cell("LightGCN")
    split = workshop.split(cell)
    with pytest.raises(UserError, match="LLMPNGNN needs ratings: type --protocol rate"):
        LLMPNGNN(split.config, split.dataset)


def test_it_runs_under_rated_protocols_alone(workshop: Any) -> None:
    model = workshop.cell("LLMPNGNN").model
    assert choose_protocol([model], workshop.miniature.card, "sign") == "sign"
    with pytest.raises(UserError, match=r"--protocol seq: LLMPNGNN runs under rate, sign"):
        choose_protocol([model], workshop.miniature.card, "seq")
    with pytest.raises(UserError, match=r"--protocol rate: SASRec runs under seq"):
        choose_protocol([workshop.cell("SASRec").model], workshop.miniature.card, "rate")
