"""Optimisers and learning-rate courses."""

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from recbole_llmgraph.train.settings import TrainSettings


def make_optimiser(parameters: Iterable[nn.Parameter], settings: TrainSettings) -> Optimizer:
    """Adam or AdamW over the parameters that are trained."""
    kind = AdamW if settings.learner == "adamw" else Adam
    return kind(
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=settings.learning_rate,
        betas=(0.9, settings.adam_beta2),
        weight_decay=settings.weight_decay,
    )


def learning_rate(settings: TrainSettings, step: int, total: int, steps_per_epoch: int) -> float:
    """Learning rate of a step: a pure function, so that a resumed run needs no scheduler state.

    Args:
        step: 0-based optimiser step within the phase.
        total: planned steps of the phase.
        steps_per_epoch: for the exponential course, which counts epochs.
    """
    peak = settings.learning_rate
    warmup = int(settings.warmup_fraction * total)
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    floor = settings.schedule_floor
    match settings.schedule:
        case "exponential":
            epoch = step // steps_per_epoch
            return float(peak * settings.schedule_rate ** (epoch / settings.schedule_epochs))
        case "linear":
            return peak * (floor + (1 - floor) * (1 - done))
        case "cosine":
            return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))
        case "constant":
            return peak
