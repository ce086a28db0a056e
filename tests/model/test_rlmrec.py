"""RLMRec beside loops: encoder, both losses, what is masked; profiles that know no test rating."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_llmgraph.artifact.tables import load_table
from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.host.dataset import permute_targets
from recbole_llmgraph.model.baseline.rlmrec import RLMRec, RLMRecSettings
from recbole_llmgraph.suite import run
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.run import Runner, make_model

KINDS = ("con", "gen")


def made(workshop: Any, kind: str, **changes: Any) -> tuple[Any, Any]:
    """Split and untrained model whose scores differ."""
    cell = workshop.provided(workshop.cell("RLMRec", rlmrec=kind, **changes))
    split = workshop.split(cell)
    model = make_model(cell, split).train()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return split, model


def batch(split: Any, size: int = 40) -> Any:
    return load_batch(split.train, np.random.default_rng(0).choice(len(split.dataset), size, replace=False))


def propagated(split: Any, model: Any, x: np.ndarray, edges: Any, reference: Any) -> np.ndarray:
    """Sum over layers, where edges that stay keep the whole graph's weights; padding among the rows."""
    whole, kept = np.zeros((2, split.n_users, split.n_items))
    whole[split.training_pairs] = 1
    kept[edges] = 1
    P = reference.symmetric(reference.joined(whole)) * reference.joined(kept)
    return reference.layers(P, x, model.options.n_layers) * (model.options.n_layers + 1)


def edges_that_stay(split: Any, model: Any) -> tuple[np.ndarray, np.ndarray]:
    matrix = model.encoder.dropped
    starts, columns = matrix.rows.long().numpy(), matrix.cols.long().numpy()
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    of_users = rows < split.n_users
    return rows[of_users], columns[of_users] - split.n_users


def perceptron(state: dict[str, np.ndarray], row: np.ndarray) -> np.ndarray:
    hidden = state["perceptron.0.weight"] @ row + state["perceptron.0.bias"]
    hidden = np.where(hidden > 0, hidden, 0.01 * hidden)
    return np.asarray(state["perceptron.2.weight"] @ hidden + state["perceptron.2.bias"])


def nce(anchor: np.ndarray, own: np.ndarray, keys: list[np.ndarray], tau: float) -> float:
    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        size = np.linalg.norm(a) * np.linalg.norm(b)
        return float(a @ b / size) if size else 0.0

    return float(np.log(sum(np.exp(cosine(anchor, key) / tau) for key in keys)) - cosine(anchor, own) / tau)


def by_hand(split: Any, model: Any, rows: Any, negatives: Any, masked: Any, reference: Any) -> float:
    """The loss, a row and a key at a time, in float64."""
    options, U = model.options, split.n_users
    state = {name: value.double().numpy() for name, value in model.state_dict().items()}
    profiles, x = model.profiles.double().numpy(), state["nodes.weight"].copy()
    for node in masked:
        x[node] = state["mask"][0]
    e = propagated(split, model, x, edges_that_stay(split, model), reference)
    ids = [rows["user_id"].numpy(), U + rows["item_id"].numpy(), U + negatives.numpy()]
    loss = reference.bpr(*(e[column] for column in ids))
    loss += options.reg_weight * sum(np.square(value).sum() for value in state.values())
    if options.rlmrec == "gen":
        keys = [profiles[node] for node in masked]
        losses = [nce(perceptron(state, e[node]), profiles[node], keys, options.tau) for node in masked]
        return float(loss + options.reconstruction_weight * np.mean(losses))
    told = {node: perceptron(state, profiles[node]) for node in range(len(e))}
    for place, column in enumerate(ids):
        keys = [told[node] for node in (range(1, U) if place == 0 else column)]
        losses = [nce(e[node], told[node], keys, options.tau) for node in column]
        loss += options.contrast_weight * np.mean(losses)
    return float(loss)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_a_loop(kind: str, workshop: Any, reference: Any) -> None:
    strong = {"contrast_weight": 0.5, "reconstruction_weight": 0.5, "reg_weight": 1e-3, "mask_ratio": 0.3}
    split, model = made(workshop, kind, edge_dropout=0.3, **strong)
    rows = batch(split)
    assert len(rows["item_id"].unique()) < len(rows) > len(rows["user_id"].unique())
    state = torch.get_rng_state()
    mine = float(model.calculate_loss(rows))
    torch.set_rng_state(state)
    negatives = model.drawn_items(rows["user_id"], rows["item_id"])[:, 1]
    masked = model.drawn_nodes().tolist() if kind == "gen" else []
    assert mine == pytest.approx(by_hand(split, model, rows, negatives, masked, reference), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_learns(kind: str, workshop: Any) -> None:
    split, model = made(workshop, kind)
    model.calculate_loss(batch(split)).backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in model.parameters())
    assert (model.mask is not None) == (kind == "gen")


def test_edges_are_drawn_every_epoch_and_scores_read_all(workshop: Any, reference: Any) -> None:
    split, model = made(workshop, "con", edge_dropout=0.3)
    first = edges_that_stay(split, model)
    pairs = set(zip(*split.training_pairs, strict=True))
    assert 0.5 < len(first[0]) / len(pairs) < 0.9 and set(zip(*first, strict=True)) < pairs
    model.train()
    second = edges_that_stay(split, model)
    assert set(zip(*first, strict=True)) != set(zip(*second, strict=True))
    model.eval()
    x = model.nodes.weight.detach().double().numpy()
    expected = propagated(split, model, x, split.training_pairs, reference)
    with torch.no_grad():
        found = torch.cat(model.tables()).double().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_padding_is_never_masked_and_every_node_may_be(workshop: Any) -> None:
    split, model = made(workshop, "gen", mask_ratio=0.5)
    drawn = [model.drawn_nodes() for _ in range(40)]
    assert all(
        len(nodes.unique()) == len(nodes) == (split.n_users + split.n_items - 2) // 2 for nodes in drawn
    )
    met = set(torch.cat(drawn).tolist())
    assert met == set(range(split.n_users + split.n_items)) - {0, split.n_users}


def test_profiles_are_what_the_texts_say_and_padding_has_none(workshop: Any) -> None:
    split, model = made(workshop, "con")
    assert not model.profiles[0].any() and not model.profiles[split.n_users].any()
    rows = torch.nn.functional.normalize(model.profiles[split.n_users + 1 :], dim=1)
    clusters = torch.tensor([(int(token[1:]) - 1) // 8 for token in split.item_tokens()[1:]])
    similar, same = rows @ rows.T, clusters[:, None] == clusters[None]
    assert similar[same].mean() > similar[~same].mean() + 0.3


def vectors(house: Any, workshop: Any, **changes: Any) -> tuple[dict[str, torch.Tensor], Any]:
    given = Runner(house).provide(workshop.cell("RLMRec", held_out=False, **changes))
    folder = Path(given.paths["profile_vectors"])
    tables = {name: load_table(folder / f"{name}.safetensors") for name in ("items", "users")}
    return {name: table.rows for name, table in tables.items()}, given


def test_test_ratings_change_no_profile(
    workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, original = [], run.load_split
    hooks = (None, permute_targets(1, 3, redraw=True), lambda dataset: permute_training(dataset))
    for name, hook in zip(("plain", "test", "training"), hooks, strict=True):
        monkeypatch.setattr(run, "load_split", partial(original, before_build=hook))
        house = House(store=tmp_path / name, data=workshop.miniature.data, source=workshop.miniature.source)
        found.append(vectors(house, workshop)[0])
    plain, tested, trained = found
    assert all(torch.equal(plain[side], tested[side]) for side in plain)
    assert not torch.equal(plain["users"], trained["users"])  # the check can fail


def permute_training(dataset: Any) -> None:
    """Shuffle the items of all ratings."""
    frame = dataset.inter_feat
    frame["item_id"] = np.random.default_rng(0).permutation(frame["item_id"].to_numpy())


def test_a_row_says_who_described_and_who_read(workshop: Any) -> None:
    _, given = vectors(workshop.house, workshop)
    assert given.notes == ["profiles from metadata alone (no language model)"]
    assert "TF-IDF" in given.text_encoder
    _, given = vectors(workshop.house, workshop, profiles="oracle")
    assert given.notes == ["profiles by heuristic (not an LLM)"]
    with pytest.raises(UserError, match="mini has no summaries; type --set profiles=metadata"):
        vectors(workshop.house, workshop, profiles="summary")


def test_without_vectors_it_says_what_to_type(workshop: Any) -> None:
    split = workshop.split(workshop.cell("XSimGCL"))
    with pytest.raises(UserError, match="RLMRec needs profile_vectors: pass config_dict"):
        RLMRec(split.config, split.dataset)
    with pytest.raises(UserError, match=r"RLMRecSettings.oracle='gpt': .*expected heuristic"):
        RLMRecSettings.read({"oracle": "gpt"})


def test_the_reconstruction_resumes_as_if_never_stopped(
    workshop: Any, tmp_path: Path, differing: Any
) -> None:
    """The contract tests train the contrast."""
    cell = workshop.provided(workshop.cell("RLMRec", rlmrec="gen", epochs=3))
    whole = workshop.train(cell, tmp_path / "whole")
    losses = [entry["loss"] for entry in whole.progress.history]
    assert losses[-1] < losses[0]

    def stop(entry: dict[str, Any]) -> None:
        if entry["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workshop.train(cell, tmp_path / "stopped", on_epoch=stop)
    resumed = workshop.train(cell, tmp_path / "stopped")
    assert differing(whole.model, resumed.model) == []
    assert [entry["loss"] for entry in resumed.progress.history] == losses
