"""Checkpoints of plain data, written whole, read with weights-only loading."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recbole_llmgraph.base.files import new_file

#: Name of a checkpoint in its folder.
CHECKPOINT = "checkpoint.pt"


@dataclass
class Progress:
    """How far a training has come. Everything a resume needs besides tensors.

    Attributes:
        phase: index of the phase in work.
        epoch: epochs of that phase finished.
        best_epoch: epoch (1-based, of the selecting phase) whose weights are kept; 0 before any.
        best_score: its validation score.
        since_best: validations since then.
        finished: the training is over.
        train_seconds: time in training epochs, validations excluded, over all sittings.
        seconds_to_best: the same up to the best epoch.
        epochs_run: epochs over all phases.
        history: one entry an epoch: phase, epoch, loss, seconds, and what was logged or validated.
    """

    phase: int = 0
    epoch: int = 0
    best_epoch: int = 0
    best_score: float = float("-inf")
    since_best: int = 0
    finished: bool = False
    train_seconds: float = 0.0
    seconds_to_best: float = 0.0
    epochs_run: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Tensors a checkpoint keeps: all but those a model opens again when it is built (`reopened_names()`)."""
    reopened = _reopened(model)
    return {
        name: tensor.detach().cpu().clone()
        for name, tensor in model.state_dict().items()
        if name not in reopened
    }


def load_trained_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put kept tensors back; a missing or foreign name is an error."""
    missing, foreign = model.load_state_dict(state, strict=False)
    missing = sorted(set(missing) - _reopened(model))
    if missing or foreign:
        raise RuntimeError(f"checkpoint does not fit the model: missing {missing}, foreign {foreign}")


def _reopened(model: nn.Module) -> set[str]:
    names = getattr(model, "reopened_names", None)
    return set(names()) if names else set()


def save_checkpoint(
    path: Path,
    progress: Progress,
    model: nn.Module,
    optimiser: torch.optim.Optimizer | None,
    best: dict[str, Tensor] | None,
) -> None:
    """Write everything a resume needs into one file, whole or not at all."""
    with new_file(path) as temporary:
        torch.save(
            {
                "progress": asdict(progress),
                "model": trained_state(model),
                "optimiser": optimiser.state_dict() if optimiser else None,
                "best": best,
            },
            temporary,
        )


def save_weights(path: Path, model: nn.Module) -> None:
    """Write what training left of a model, without what it opens again when it is built."""
    with new_file(path) as temporary:
        save_file(trained_state(model), temporary)


def load_weights(path: Path, model: nn.Module) -> None:
    """Put written weights back into a model built from the same settings."""
    load_trained_state(model, load_file(path))


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint, or None when there is none."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    state["progress"] = Progress(**state["progress"])
    return state
