"""How GAL-Rec trains: the copy's pace, adapters, half precision, collapse, and what a row says of it."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.loss.uniformity import spread
from recbole_llmgraph.model.galrec import GALRecSettings, ablations, search_space
from recbole_llmgraph.suite.measure import parameter_counts
from recbole_llmgraph.suite.run import make_model
from recbole_llmgraph.train.checkpoint import load_trained_state, trained_state

SMALL = {"text_encoder": "tfidf:16", "epochs": 1, "eval_step": 0, "train_batch_size": 16, "gal_rows": 4}


def model_of(workshop: Any, **changes: Any) -> tuple[Any, Any, Any]:
    cell = workshop.provided(workshop.cell("GALRec", **SMALL, **changes))
    split = workshop.split(cell)
    return cell, split, make_model(cell, split)


def trained_part(network: Any) -> dict[str, Tensor]:
    return {name: w.detach().clone() for name, w in network.named_parameters() if w.requires_grad}


def test_the_copy_follows_once_an_optimiser_step(workshop: Any, tmp_path: Path) -> None:
    """Five micro-batches by two are three steps; every micro-batch enters the queues."""
    cell, split, model = model_of(workshop, accumulate=2, rows_per_epoch=80, momentum=0.9)
    expected, steps = trained_part(model.reader), []
    original = model.end_step

    def end_step() -> None:
        now = trained_part(model.reader)
        steps.append(now)
        for name, weight in expected.items():
            weight.copy_(0.9 * weight + 0.1 * now[name])
        original()

    model.end_step = end_step
    workshop.fit(cell, split, model, tmp_path)
    assert len(steps) == 3
    assert not torch.equal(steps[0]["words.weight"], steps[1]["words.weight"])
    copied = {name.replace("/", "."): kept for name, kept in model.contrast.copy.named_buffers()}
    assert copied.keys() == expected.keys()
    for name, kept in copied.items():
        torch.testing.assert_close(kept, expected[name], rtol=1e-5, atol=1e-6)
    assert all(int(ring.cursor) == 5 * 4 % 16 and len(ring) == 16 for ring in model.contrast.queues.values())


def test_the_copy_begins_as_the_network_itself(workshop: Any) -> None:
    _, split, model = model_of(workshop)
    model.eval()
    interaction = split.train.collate_fn(np.arange(6))
    pairs = model._pairs(interaction, interaction["item_id"])
    remembered = model._remembered(pairs)
    for view, encoding in model.encodings(interaction, list(remembered)).items():
        torch.testing.assert_close(torch.nn.functional.normalize(remembered[view]), encoding)


def test_adapters_train_and_only_they_are_copied_and_kept(workshop: Any, tmp_path: Path, scored: Any) -> None:
    """The momentum copy doubles nothing that is frozen, and a checkpoint holds no backbone."""
    cell, split, model = model_of(workshop, lora=True, rows_per_epoch=64)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    workshop.fit(cell, split, model, tmp_path)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    mapping = {"reader.external.mapping.weight", "reader.external.mapping.bias"}
    assert mapping <= trained and all("lora_" in name for name in trained - mapping)
    layers = {name.split(".")[-4] for name in trained - mapping}
    assert layers == {"q", "k", "v", "o"}
    assert {name.split(".")[0] for name in trained} == {"reader", "decoder"}
    # one token attends to itself: nothing is asked in the decoder's own attention
    own = [f".0.SelfAttention.{part}." for part in ("q", "k")]
    idle = {name for name in trained if name.startswith("decoder.") and any(part in name for part in own)}
    assert moved == trained - idle
    copied = sum(kept.numel() for kept in model.contrast.copy.buffers())
    assert copied == sum(weight.numel() for weight in model.reader.parameters() if weight.requires_grad)
    assert copied < 0.5 * sum(weight.numel() for weight in model.reader.parameters())

    kept = trained_state(model)
    frozen = {n for n, w in model.named_parameters(remove_duplicate=False) if not w.requires_grad}
    assert frozen and not frozen & kept.keys()
    again = make_model(cell, split)
    load_trained_state(again, kept)
    assert torch.equal(scored(again.eval(), split.test), scored(model.eval(), split.test))


def test_full_tuning_copies_the_reader_and_no_more(workshop: Any) -> None:
    _, _, model = model_of(workshop)
    copied = sum(kept.numel() for kept in model.contrast.copy.buffers())
    assert copied == sum(weight.numel() for weight in model.reader.parameters())
    assert not any("decoder" in name for name, _ in model.contrast.copy.named_buffers())
    assert parameter_counts(model)["trained"] == sum(w.numel() for w in model.parameters())


def test_without_gal_there_is_neither_copy_nor_queue(workshop: Any, tmp_path: Path) -> None:
    cell, split, model = model_of(workshop, gal=False, rows_per_epoch=32)
    assert not hasattr(model, "contrast") and not any("queue" in name for name in model.state_dict())
    workshop.fit(cell, split, model, tmp_path)


def test_gal_off_asks_the_same_prompts(workshop: Any) -> None:
    """Table III compares losses, not prompts: L0 is equal to the bit."""
    values = []
    for changes in ({"gal": False}, {"queue_length": 0}):
        _, split, model = model_of(workshop, **changes)
        values.append(model.eval().calculate_loss(split.train.collate_fn(np.arange(12))))
    assert torch.equal(*values)


def test_half_precision_stays_near_and_weights_stay_whole(workshop: Any, tmp_path: Path) -> None:
    losses, encodings = [], []
    for dtype in ("fp32", "bf16"):
        cell, split, model = model_of(workshop, dtype=dtype, rows_per_epoch=32)
        interaction = split.train.collate_fn(np.arange(16))
        model.eval()
        for _ in range(2):  # the second one has something in its queues
            losses.append(float(model.calculate_loss(interaction)))
        encodings.append(model.encodings(interaction, ["u2"])["u2"])
        workshop.fit(cell, split, model, tmp_path / dtype)
        assert {weight.dtype for weight in model.state_dict().values() if weight.is_floating_point()} == {
            torch.float32
        }
    assert losses[2:] == pytest.approx(losses[:2], rel=0.02)
    assert float((encodings[0] * encodings[1]).sum(1).min()) > 0.999


# ---- trap: collapse


def first_steps(workshop: Any, count: int = 18, **changes: Any) -> tuple[list[float], list[float]]:
    """Mean cosine between the users of each batch, and the contrastive part of the loss."""
    settings = SMALL | {"gal_rows": 0, "queue_length": 64} | changes
    cell = workshop.provided(workshop.cell("GALRec", **settings))
    split = workshop.split(cell)
    model = make_model(cell, split).train()
    torch.manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rng, contrasted = np.random.default_rng(0), []
    model.contrast.register_forward_hook(lambda *call: contrasted.append(float(call[2])))
    for _ in range(count):
        optimiser.zero_grad()
        rows = rng.integers(0, len(split.train._dataset), 16)
        model.calculate_loss(split.train.collate_fn(rows)).backward()
        optimiser.step()
        model.end_step()
    return [cosine for cosine, _ in model._spread], contrasted


def test_positives_of_the_copy_spread_users_apart(workshop: Any) -> None:
    cosines, contrasted = first_steps(workshop)
    assert cosines[0] > 0.7 and max(cosines[-3:]) < 0.6
    assert contrasted[0] == 0 and min(contrasted[3:]) > 1.5


@pytest.mark.parametrize("momentum", [0.999, pytest.param(0.9, marks=pytest.mark.slow)])
def test_positives_of_the_query_encoder_collapse(momentum: float, workshop: Any) -> None:
    """The paper's wording: within twenty steps all users look alike, and the losses are won for nothing."""
    cosines, contrasted = first_steps(workshop, positives="query", momentum=momentum)
    assert cosines[0] < 0.8 and min(cosines[-3:]) > 0.93
    assert max(contrasted[-3:]) < (0.05 if momentum > 0.99 else 0.5)


# ---- what is logged and told


def test_the_spread_of_a_batch_is_logged_each_epoch(workshop: Any, tmp_path: Path) -> None:
    cell, split, model = model_of(workshop, rows_per_epoch=48)
    trained = workshop.fit(cell, split, model, tmp_path)
    (entry,) = trained.progress.history
    assert -1 <= entry["batch_cosine"] <= 1 and -8 <= entry["uniformity"] <= 0
    assert len(model._spread) == 3
    model.start_epoch(1)
    assert model.epoch_log() == {}


def test_what_is_logged_is_the_spread_of_the_users_encodings(workshop: Any) -> None:
    _, split, model = model_of(workshop)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "n_heads"):
            module.dropout = 0.0
    interaction = split.train.collate_fn(np.arange(10))
    model.calculate_loss(interaction)
    pairs = model._pairs(interaction, interaction["item_id"], model.epoch)
    ((_, means),) = model.reader(model.views.read([(pairs, ["u2"])]))
    cosine, uniformity = model._spread[-1]
    assert (cosine, uniformity) == pytest.approx(spread(means), abs=1e-5)
    log = model.epoch_log()
    assert log == {"batch_cosine": round(cosine, 5), "uniformity": round(uniformity, 5)}
    model.eval()
    model.calculate_loss(interaction)
    assert len(model._spread) == 1
    model.train()
    model.calculate_loss(split.train.collate_fn([0]))  # one row has nobody to lie apart from
    assert len(model._spread) == 1


def test_the_row_says_what_decides_it(workshop: Any) -> None:
    notes = model_of(workshop, user_row="static", rows_per_epoch=1000)[2].notes
    assert notes == [
        "backbone builtin:t5-mini",
        "source text, user_row static",
        "second hop: 2 a neighbour, 4 in all",
        "1,000 pairs an epoch",
        "4 rows of a batch of 16 contrasted",
        "user_row static: a user's row was made from her training target too",
    ]
    assert len(model_of(workshop, gal=False)[2].notes) == 3


# ---- settings


def test_defaults_are_the_published_ones() -> None:
    s = GALRecSettings()
    assert (s.learner, s.weight_decay, s.schedule, s.warmup_fraction) == ("adamw", 1e-3, "linear", 0.05)
    assert (s.train_batch_size, s.accumulate, s.queue_length, s.max_length) == (8, 8, 512, 512)
    assert s.learning_rate in (1e-5, 3e-5, 1e-4) and s.tau in (0.05, 0.1, 0.15, 0.2)
    assert (s.hop1_items, s.hop1_users, s.hop2_neighbors, s.hop2_cap) == (20, 20, 8, 160)
    assert (s.lambda_1, s.lambda_2, s.lambda_3, s.momentum) == (0.1, 0.1, 0.1, 0.999)
    assert (s.epochs, s.stopping_step, s.valid_metric) == (20, 3, "ndcg@10")
    assert (s.user_row, s.item_out, s.positives, s.l1_negatives, s.loss_vocab) == (
        "history", "tied", "momentum", "zero_hop", "full",
    )  # fmt: skip
    assert s.backbone == "hub:google/flan-t5-base" and s.plan().weights == {"L1": 0.1, "L2": 0.1, "L3": 0.1}


def test_sweeps_and_ablations_name_settings_that_are_allowed() -> None:
    for name, values in search_space.items():
        assert all(getattr(GALRecSettings(**{name: value}), name) == value for value in values)
    assert all(GALRecSettings(**changes) != GALRecSettings() for changes in ablations.values())
    assert GALRecSettings(**ablations["no_l2"]).plan().weights.keys() == {"L1", "L3"}
    assert GALRecSettings(**ablations["one_hop"]).plan().weights.keys() == {"L3"}


def test_prompts_that_may_outgrow_the_limit_are_refused(workshop: Any) -> None:
    with pytest.raises(
        UserError, match=r"GALRec\.max_length=20: a prompt may take \d+ tokens; lower hop2_cap"
    ):
        model_of(workshop, max_length=20)


@pytest.mark.slow
def test_the_published_backbones_shape_runs(workshop: Any, tmp_path: Path) -> None:
    """Flan-T5's configuration and tokenizer with fresh weights: its own text head, words for the prompts."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "lm"
    folder = Path(os.environ.get("RECBOLE_LLMGRAPH_LM", beside)) / "flan-t5-small-tokenizer"
    if not folder.is_dir():
        pytest.skip("no Flan-T5 configuration; set RECBOLE_LLMGRAPH_LM to a folder with it")
    cell, split, model = model_of(
        workshop, backbone=f"path:{folder}", random_weights=True, wording="sentences", rows_per_epoch=32
    )
    assert model.text_rows is not model.reader.words.weight and model.text_scale == 1.0
    assert model.item_scale == pytest.approx(1 / math.sqrt(512))
    trained = workshop.fit(cell, split, model, tmp_path)
    assert np.isfinite(trained.progress.history[0]["loss"])
    assert trained.scores().isfinite()[:, 1:].all()
