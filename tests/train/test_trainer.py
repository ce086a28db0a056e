"""The training loop: steps, schedules, phases, stopping, and what a resume must not change."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.suite.run import make_model
from recbole_llmgraph.train import checkpoint
from recbole_llmgraph.train.checkpoint import load_checkpoint
from recbole_llmgraph.train.optimiser import learning_rate, make_optimiser
from recbole_llmgraph.train.order import batches_of_epoch, user_batches
from recbole_llmgraph.train.randomness import epoch_seed, one_order_of_sums, seed_everything
from recbole_llmgraph.train.settings import Phase, TrainSettings
from recbole_llmgraph.train.trainer import CHECKPOINT_VARIABLE, Trainer

# -- learning rate -------------------------------------------------------------------------


def test_learning_rates_by_hand() -> None:
    warm = TrainSettings(learning_rate=1.0, schedule="cosine", warmup_fraction=0.2, schedule_floor=0.1)
    rates = [learning_rate(warm, step, 10, 5) for step in range(10)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2:] == pytest.approx([0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)])
    linear = TrainSettings(learning_rate=2.0, schedule="linear")
    assert [learning_rate(linear, step, 4, 2) for step in range(4)] == [2.0, 1.5, 1.0, 0.5]
    decay = TrainSettings(learning_rate=1.0, schedule="exponential", schedule_rate=0.5, schedule_epochs=2)
    assert [learning_rate(decay, step, 99, 3) for step in (0, 2, 3, 6, 12)] == pytest.approx(
        [1, 1, 0.5**0.5, 0.5, 0.25]
    )


@given(
    st.sampled_from(["constant", "exponential", "linear", "cosine"]),
    st.integers(1, 200), st.floats(0, 0.9), st.floats(0, 1),
)  # fmt: skip
def test_learning_rates_stay_between_zero_and_the_peak(
    schedule: Any, total: int, warmup: float, floor: float
) -> None:
    settings = TrainSettings(
        learning_rate=0.3, schedule=schedule, warmup_fraction=warmup, schedule_floor=floor
    )
    rates = [learning_rate(settings, step, total, 7) for step in range(total)]
    assert all(0 < rate <= 0.3 + 1e-12 for rate in rates)
    assert max(rates) == pytest.approx(0.3)


# -- order ---------------------------------------------------------------------------------


def test_users_are_drawn_once_a_step_with_one_of_their_rows_each() -> None:
    users = np.repeat([1, 2, 3, 4, 5], [1, 2, 3, 4, 50])
    batches = user_batches(users, 3, 4000, np.random.default_rng(0))
    assert len(batches) == 4000
    assert all(len(set(users[rows])) == len(rows) == 3 for rows in batches)
    rows = np.concatenate(batches)
    by_user = np.bincount(users[rows])[1:] / len(rows)
    assert by_user == pytest.approx(0.2, abs=0.02)  # uniform over users, however active
    within = np.bincount(rows)[-50:] / np.bincount(users[rows])[5]
    assert within == pytest.approx(0.02, abs=0.012)  # and uniform over a user's rows


def test_an_epoch_of_users_has_as_many_steps_as_the_release(workshop: Any) -> None:
    cell = workshop.cell("HeLLMPre", train_batch_size=40)
    split = workshop.split(cell)
    n = len(split.training_pairs[0])
    rng = np.random.default_rng(0)
    assert len(batches_of_epoch(split.train, cell.settings, rng, "by_user")) == n // 40 + 1
    fewer = workshop.cell("HeLLMPre", train_batch_size=40, rows_per_epoch=100).settings
    assert len(batches_of_epoch(split.train, fewer, rng, "by_user")) == 3


@pytest.mark.parametrize("batching", ["uniform", "by_length"])
@pytest.mark.parametrize("wanted", [0, 50, 10_000])
def test_every_row_comes_once_an_epoch_or_as_many_as_asked(workshop: Any, batching: str, wanted: int) -> None:
    cell = workshop.cell("SASRec", rows_per_epoch=wanted, train_batch_size=16)
    loader = workshop.split(cell).train
    rows = [
        batches_of_epoch(loader, cell.settings, np.random.default_rng(seed), batching) for seed in (1, 1, 2)
    ]
    flat = [np.concatenate(batches) for batches in rows]
    expected = wanted if 0 < wanted < len(loader._dataset) else len(loader._dataset)
    assert all(len(set(one)) == len(one) == expected for one in flat)
    assert flat[0].tolist() == flat[1].tolist() != flat[2].tolist()
    if batching == "by_length":
        lengths = loader._dataset.inter_feat["item_length"].numpy()
        spread = np.mean([np.ptp(lengths[batch]) for batch in rows[0]])
        mixed = batches_of_epoch(loader, cell.settings, np.random.default_rng(1), "uniform")
        assert spread < np.mean([np.ptp(lengths[batch]) for batch in mixed])


# -- randomness ----------------------------------------------------------------------------


def test_an_epochs_randomness_follows_from_seed_phase_and_epoch() -> None:
    seeds = {epoch_seed(s, p, e) for s in (1, 2, 12) for p in ("train", "pretrain") for e in (0, 1, 21)}
    assert len(seeds) == 18 and all(0 <= seed < 2**63 for seed in seeds)

    def draw() -> list[float]:
        import random

        rng = seed_everything(epoch_seed(1, "train", 3))
        return [random.random(), float(np.random.rand()), float(torch.rand(())), float(rng.random())]

    first = draw()
    torch.rand(100), np.random.rand(7)
    assert draw() == first


def test_gradients_of_looked_up_rows_do_not_depend_on_how_threads_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without it, torch sums them in any order from 32,768 numbers on."""
    threads = torch.get_num_threads()
    table = torch.randn(2000, 64, requires_grad=True)
    ids, upstream = torch.randint(0, 50, (4096,)), torch.randn(4096, 64)

    def gradient() -> torch.Tensor:
        table.grad = None
        (table[ids] * upstream).sum().backward()
        assert table.grad is not None
        return table.grad

    torch.set_num_threads(2)
    try:
        with one_order_of_sums():
            first = gradient()
            assert all(torch.equal(gradient(), first) for _ in range(20))
            torch.set_num_threads(1)
            assert torch.equal(gradient(), first)
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(threads)


# -- the loop ------------------------------------------------------------------------------


def built(workshop: Any, name: str = "BPR", **changes: Any) -> tuple[Any, Any, Any]:
    cell = workshop.provided(workshop.cell(name, **changes))
    split = workshop.split(cell)
    return cell, split, make_model(cell, split)


def test_accumulated_batches_step_like_one_large_batch(workshop: Any, tmp_path: Path) -> None:
    """SASRec without dropout: the mean gradient over equal micro-batches is that of the whole batch."""
    still = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "epochs": 2, "rows_per_epoch": 256}
    large = {"train_batch_size": 64, "accelerate": False}
    small = {"train_batch_size": 16, "accumulate": 4, "accelerate": False}
    ends = [
        workshop.train(workshop.cell("SASRec", **still, **size), tmp_path / str(number)).model
        for number, size in enumerate((large, small))
    ]
    for a, b in zip(ends[0].parameters(), ends[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)


def test_gradients_are_clipped(workshop: Any, tmp_path: Path) -> None:
    _, split, model = built(workshop, learner="adam", clip_grad_norm=0.001)
    cell = workshop.cell("BPR", clip_grad_norm=0.001)
    trainer = Trainer(model, split, cell.settings, folder=tmp_path, seed=1, validate=lambda m: 0.0)
    optimiser = make_optimiser(model.parameters(), cell.settings)
    trainer._backward(load_batch(split.train, np.arange(32)), 1)
    trainer._step(optimiser)
    total = math.sqrt(sum(float(w.grad.square().sum()) for w in model.parameters() if w.grad is not None))
    assert total == pytest.approx(0.001, rel=1e-3)


def scripted(workshop: Any, folder: Path, scores: list[float], **changes: Any) -> Any:
    """A training whose validations are told beforehand."""
    cell, split, model = built(workshop, **changes)
    told = iter(scores)
    trainer = Trainer(
        model,
        split,
        cell.settings,
        folder=folder,
        seed=1,
        validate=lambda m: next(told),
        checkpoint_seconds=0,
    )
    states = []
    trainer.on_epoch = lambda entry: states.append({k: v.clone() for k, v in model.state_dict().items()})
    return trainer.fit(), states, model


def test_the_best_epoch_is_kept_and_ties_do_not_count(workshop: Any, tmp_path: Path) -> None:
    progress, states, model = scripted(workshop, tmp_path, [0.1, 0.3, 0.3, 0.2], epochs=4, stopping_step=0)
    assert (progress.best_epoch, progress.best_score, progress.epochs_run) == (2, 0.3, 4)
    assert all(torch.equal(weight, states[1][name]) for name, weight in model.state_dict().items())


def test_patience_counts_validations(workshop: Any, tmp_path: Path) -> None:
    progress, _, _ = scripted(workshop, tmp_path, [0.3, 0.2, 0.1, 0.9], epochs=20, stopping_step=2)
    assert (progress.epochs_run, progress.best_epoch) == (3, 1)
    progress, _, _ = scripted(
        workshop, tmp_path / "rarely", [0.3, 0.2, 0.1], epochs=20, stopping_step=2, eval_step=3
    )
    assert (progress.epochs_run, progress.best_epoch) == (9, 3)


def test_the_last_epoch_is_always_validated(workshop: Any, tmp_path: Path) -> None:
    progress, _, _ = scripted(workshop, tmp_path, [0.1, 0.5], epochs=5, eval_step=3)
    assert [entry["epoch"] for entry in progress.history if "valid" in entry] == [3, 5]
    assert progress.best_epoch == 5


def test_without_validation_the_last_epoch_stands(workshop: Any, tmp_path: Path) -> None:
    progress, states, model = scripted(workshop, tmp_path, [], epochs=3, eval_step=0)
    assert progress.best_epoch == 0 and progress.epochs_run == 3
    assert all(torch.equal(weight, states[-1][name]) for name, weight in model.state_dict().items())


def test_phases_run_in_order_and_only_the_last_selects(workshop: Any) -> None:
    progress = workshop.reference("S3Rec").progress
    assert [(e["phase"], e["epoch"]) for e in progress.history] == [
        ("pretrain", 1), *(("finetune", epoch) for epoch in range(1, 5)),
    ]  # fmt: skip
    assert "valid" not in progress.history[0] and 1 <= progress.best_epoch <= 4
    assert Phase("any", 1).selects


def test_a_loss_that_is_no_number_stops_with_advice(workshop: Any, tmp_path: Path) -> None:
    cell, split, model = built(workshop)
    with torch.no_grad():
        model.user_embedding.weight[3] = torch.nan
    with pytest.raises(FloatingPointError, match="lower learning_rate or set clip_grad_norm"):
        workshop.fit(cell, split, model, tmp_path)


class Stop(Exception):
    """A training interrupted."""


def test_stopping_while_selecting_or_waiting_changes_nothing(
    workshop: Any, tmp_path: Path, differing: Any
) -> None:
    """A sitting an epoch, with early stopping and a warm-up schedule under way."""
    changes = {"epochs": 6, "stopping_step": 2, "schedule": "cosine", "warmup_fraction": 0.3, "eval_step": 2}
    whole = workshop.train(workshop.cell("LightGCN", **changes), tmp_path / "whole")

    def once(folder: Path) -> Any:
        seen: list[Any] = []

        def stop(entry: Any) -> None:
            seen.append(entry)
            if len(seen) == 2:
                raise Stop

        return workshop.train(workshop.cell("LightGCN", **changes), folder, on_epoch=stop)

    sittings = 0
    while True:
        sittings += 1
        try:
            pieces = once(tmp_path / "pieces")
            break
        except Stop:
            assert sittings < 10
    assert sittings == whole.progress.epochs_run
    assert differing(whole.model, pieces.model) == []
    assert [e.get("valid") for e in whole.progress.history] == [
        e.get("valid") for e in pieces.progress.history
    ]
    assert whole.progress.since_best == pieces.progress.since_best


def test_the_model_is_left_with_what_was_kept_also_when_found_finished(
    workshop: Any, tmp_path: Path, differing: Any
) -> None:
    cell = workshop.cell("BPR")
    first = workshop.train(cell, tmp_path)
    again = workshop.train(cell, tmp_path, on_epoch=lambda entry: pytest.fail("trained again"))
    assert differing(first.model, again.model) == []


def test_checkpoints_come_as_often_as_the_environment_says(
    workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, split, model = built(workshop, epochs=3)
    counts = []
    for told, expected in (("0", 4), ("3600", 1), ("", 1)):
        monkeypatch.setenv(CHECKPOINT_VARIABLE, told)
        saved: list[Path] = []
        monkeypatch.setattr(
            "recbole_llmgraph.train.trainer.save_checkpoint", lambda path, *rest, s=saved: s.append(path)
        )
        Trainer(
            model, split, cell.settings, folder=tmp_path, seed=1, validate=lambda m: 0.0
        ).fit()  # the last one is the finished training's
        counts.append((len(saved), expected))
    assert all(found == expected for found, expected in counts)
    monkeypatch.setenv(CHECKPOINT_VARIABLE, "often")
    with pytest.raises(UserError, match=rf"\${CHECKPOINT_VARIABLE}=often: expected a number of seconds"):
        Trainer(model, split, cell.settings, folder=tmp_path, seed=1, validate=lambda m: 0.0)


def test_checkpoints_are_plain_data(workshop: Any, tmp_path: Path) -> None:
    workshop.train(workshop.cell("SASRec", epochs=1), tmp_path)
    state = load_checkpoint(tmp_path / "checkpoint.pt")  # weights-only loading runs no code
    assert state is not None and isinstance(state["progress"], checkpoint.Progress)
    assert load_checkpoint(tmp_path / "none.pt") is None
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_adam_and_adamw_decay_differently(workshop: Any) -> None:
    _, _, model = built(workshop)
    kinds = {}
    for learner in ("adam", "adamw"):
        settings = TrainSettings(learner=learner, weight_decay=0.1, adam_beta2=0.95, learning_rate=0.5)
        optimiser = make_optimiser(model.parameters(), settings)
        kinds[learner] = type(optimiser)
        group = optimiser.param_groups[0]
        assert (group["lr"], group["betas"], group["weight_decay"]) == (0.5, (0.9, 0.95), 0.1)
    assert kinds == {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
