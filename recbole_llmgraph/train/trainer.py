"""The one training loop: phases of epochs, validation, early stopping, resume.

It trains RecBole's models and ours alike: a model gives `calculate_loss(interaction)`
(a tensor or a tuple of tensors) and may give `batching`, `phases(settings)`,
`enter_phase(name)`, `start_epoch(epoch)`, `end_step()` (after each optimiser step) and `epoch_log()`.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import say, track
from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.host.dataset import Split
from recbole_llmgraph.train.checkpoint import (
    CHECKPOINT,
    Progress,
    load_checkpoint,
    load_trained_state,
    save_checkpoint,
    trained_state,
)
from recbole_llmgraph.train.optimiser import learning_rate, make_optimiser
from recbole_llmgraph.train.order import Rows, batches_of_epoch
from recbole_llmgraph.train.randomness import epoch_seed, one_order_of_sums, seed_everything
from recbole_llmgraph.train.settings import Phase, TrainSettings

#: Seconds between checkpoints; epochs since the last one are trained again after a kill.
CHECKPOINT_EVERY = 20.0
#: Environment variable with another number of seconds; 0 writes one after every epoch.
CHECKPOINT_VARIABLE = "RECBOLE_LLMGRAPH_CHECKPOINT_SECONDS"


class Trainer:
    """Trains one model on one split.

    Args:
        model: a RecBole model.
        split: data.
        settings: how to train.
        folder: where the checkpoint lies; a folder with one is resumed.
        seed: of the run.
        validate: model -> score to be maximised; called every `settings.eval_step` epochs.
        on_epoch: called after every epoch with its history entry (sweeps report there).
        until: epochs of the selecting phase that an earlier training chose: train these, on the course that
            was planned for all, and keep the last; nothing validates. 0 validates as the settings say.
        checkpoint_seconds: between two checkpoints; default `$RECBOLE_LLMGRAPH_CHECKPOINT_SECONDS`, else 20.
    """

    def __init__(
        self,
        model: Any,
        split: Split,
        settings: TrainSettings,
        *,
        folder: Path,
        seed: int,
        validate: Callable[[Any], float],
        on_epoch: Callable[[dict[str, Any]], None] | None = None,
        until: int = 0,
        checkpoint_seconds: float | None = None,
    ) -> None:
        """See the class."""
        self.model = model
        self.split = split
        self.settings = settings
        self.path = folder / CHECKPOINT
        self.seed = seed
        self.validate = validate
        self.on_epoch = on_epoch
        self.until = until
        self.phases: list[Phase] = (
            model.phases(settings) if hasattr(model, "phases") else [Phase("train", settings.epochs)]
        )
        self.batching = getattr(model, "batching", "uniform") if settings.accelerate else _plain(model)
        self.progress = Progress()
        self.best: dict[str, Tensor] | None = None
        self.saved_at = time.monotonic()
        self.checkpoint_seconds = _checkpoint_seconds() if checkpoint_seconds is None else checkpoint_seconds

    def fit(self) -> Progress:
        """Train to the end, from the checkpoint when there is one; the model holds the kept weights."""
        state = load_checkpoint(self.path)
        if state:
            self.progress, self.best = state["progress"], state["best"]
            say(f"resuming after {self.progress.epochs_run} epochs")
        while self.progress.phase < len(self.phases) and not self.progress.finished:
            with one_order_of_sums():
                self._run_phase(self.phases[self.progress.phase], state)
            state = None
            self.progress.phase += 1
            self.progress.epoch = 0
        if state:  # finished before it was stopped
            load_trained_state(self.model, state["model"])
        self.progress.finished = True
        if self.best is not None:
            load_trained_state(self.model, self.best)
        save_checkpoint(self.path, self.progress, self.model, None, self.best)
        return self.progress

    def _run_phase(self, phase: Phase, state: dict[str, Any] | None) -> None:
        if hasattr(self.model, "enter_phase"):
            self.model.enter_phase(phase.name)
        optimiser = make_optimiser(self.model.parameters(), self.settings)
        if state:
            load_trained_state(self.model, state["model"])
            optimiser.load_state_dict(state["optimiser"])
        last = self.until if self.until and phase.selects else phase.epochs
        while self.progress.epoch < last and not self.progress.finished:
            entry = self._run_epoch(phase, optimiser)
            if phase.selects and self._due(phase):
                self._select(entry)
            self.progress.history.append(entry)
            _report(entry, last)
            if self.on_epoch:
                self.on_epoch(entry)
            if time.monotonic() - self.saved_at >= self.checkpoint_seconds:
                save_checkpoint(self.path, self.progress, self.model, optimiser, self.best)
                self.saved_at = time.monotonic()

    def _run_epoch(self, phase: Phase, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """Train one epoch; everything random in it follows from (seed, phase, epoch)."""
        epoch = self.progress.epoch
        rng = seed_everything(epoch_seed(self.seed, phase.name, epoch))
        self.model.train()
        if hasattr(self.model, "start_epoch"):
            self.model.start_epoch(epoch)
        started = time.perf_counter()
        batches = batches_of_epoch(self.split.train, self.settings, rng, self.batching)
        loss = self._steps(batches, phase, optimiser)
        seconds = time.perf_counter() - started
        self.progress.epoch += 1
        self.progress.epochs_run += 1
        self.progress.train_seconds += seconds
        entry = {"phase": phase.name, "epoch": epoch + 1, "loss": loss, "seconds": round(seconds, 3)}
        if hasattr(self.model, "epoch_log"):
            entry.update(self.model.epoch_log())
        return entry

    def _steps(self, batches: list[Rows], phase: Phase, optimiser: torch.optim.Optimizer) -> float:
        """One pass over the batches; returns the mean loss."""
        group = self.settings.accumulate
        steps_per_epoch = -(-len(batches) // group)
        first = self.progress.epoch * steps_per_epoch
        losses = []
        for number, rows in enumerate(track(batches, f"{phase.name} {self.progress.epoch + 1}", unit="step")):
            if number % group == 0:
                rate = learning_rate(
                    self.settings, first + number // group, phase.epochs * steps_per_epoch, steps_per_epoch
                )
                for parameters in optimiser.param_groups:
                    parameters["lr"] = rate
                optimiser.zero_grad(set_to_none=True)
            interaction = load_batch(self.split.train, rows, self.settings.accelerate)
            share = min(group, len(batches) - number // group * group)  # the last group may be smaller
            losses.append(self._backward(interaction.to(self.model.device), share))
            if number % group == group - 1 or number == len(batches) - 1:
                self._step(optimiser)
        return float(np.mean(losses)) if losses else 0.0

    def _backward(self, interaction: Any, share: int) -> float:
        found = self.model.calculate_loss(interaction)
        loss: Tensor = torch.stack(found).sum() if isinstance(found, tuple) else found
        value = float(loss.detach())
        if not np.isfinite(value):
            raise FloatingPointError(
                f"the training loss became {value}; lower learning_rate or set clip_grad_norm"
            )
        if loss.requires_grad:
            (loss / share).backward()
        return value

    def _step(self, optimiser: torch.optim.Optimizer) -> None:
        if self.settings.clip_grad_norm > 0:
            nn.utils.clip_grad_norm_(
                [p for g in optimiser.param_groups for p in g["params"]], self.settings.clip_grad_norm
            )
        optimiser.step()
        if hasattr(self.model, "end_step"):
            self.model.end_step()

    def _due(self, phase: Phase) -> bool:
        every = 0 if self.until else self.settings.eval_step
        return every > 0 and (self.progress.epoch % every == 0 or self.progress.epoch == phase.epochs)

    def _select(self, entry: dict[str, Any]) -> None:
        """Validate; keep the weights when they are the best so far, stop when patience is over."""
        progress = self.progress
        score = self.validate(self.model)
        entry["valid"] = score
        if score > progress.best_score:
            progress.best_score, progress.best_epoch, progress.since_best = score, progress.epoch, 0
            progress.seconds_to_best = progress.train_seconds
            self.best = trained_state(self.model)
            return
        progress.since_best += 1
        if self.settings.stopping_step and progress.since_best >= self.settings.stopping_step:
            progress.finished = True


def _checkpoint_seconds() -> float:
    """Seconds between checkpoints, from the environment where it says so."""
    told = os.environ.get(CHECKPOINT_VARIABLE) or str(CHECKPOINT_EVERY)
    try:
        return float(told)
    except ValueError:
        raise UserError(f"${CHECKPOINT_VARIABLE}={told}: expected a number of seconds such as 20") from None


def _plain(model: Any) -> str:
    """Batch order without acceleration: sampling by user is the model's own and stays."""
    return "by_user" if getattr(model, "batching", "uniform") == "by_user" else "uniform"


def _report(entry: dict[str, Any], last: int) -> None:
    valid = f"  valid {entry['valid']:.5f}" if "valid" in entry else ""
    say(
        f"  {entry['phase']} {entry['epoch']}/{last}"
        f"  loss {entry['loss']:.4f}{valid}  {entry['seconds']:.1f} s"
    )
