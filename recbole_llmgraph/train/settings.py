"""Settings that every trained model shares, and the phases a training runs through."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from recbole_llmgraph.base.settings import Settings

#: What validations measure under one protocol or another, and may be selected by.
VALID_METRICS = tuple(f"{metric}@{k}" for metric in ("recall", "ndcg", "precision") for k in (5, 10, 15, 20))


@dataclass(frozen=True)
class Phase:
    """One stretch of training with its own loss.

    Attributes:
        name: handed to `model.enter_phase` before the first epoch, when the model has that method.
        epochs: most epochs of this phase.
        selects: whether validation picks the epoch to keep; otherwise the last epoch stands.
    """

    name: str
    epochs: int
    selects: bool = True


class TrainSettings(Settings):
    """How a model is trained; every model's settings class extends this one."""

    epochs: PositiveInt = 100
    """Most epochs."""
    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate."""
    train_batch_size: PositiveInt = 1024
    """Training rows a step (a micro-batch when `accumulate` > 1)."""
    accumulate: PositiveInt = 1
    """Micro-batches whose gradients are averaged into one optimiser step."""
    rows_per_epoch: NonNegativeInt = 0
    """Training rows drawn an epoch, each at most once; 0 takes all."""
    eval_step: NonNegativeInt = 1
    """Epochs between two validations; 0 validates never and keeps the last epoch."""
    stopping_step: NonNegativeInt = 5
    """Validations without a better score after which training stops; 0 never stops early."""
    valid_metric: str = "ndcg@10"
    """Validation metric that picks the epoch, under the run's selection mask."""
    learner: Literal["adam", "adamw"] = "adam"
    weight_decay: NonNegativeFloat = 0.0
    adam_beta2: float = Field(default=0.999, gt=0, lt=1)
    clip_grad_norm: NonNegativeFloat = 0.0
    """Largest gradient norm; 0 leaves gradients alone."""
    schedule: Literal["constant", "exponential", "linear", "cosine"] = "constant"
    """Course of the learning rate after warm-up, over all planned steps of a phase."""
    schedule_rate: PositiveFloat = 0.96
    """`exponential`: factor over `schedule_epochs` epochs."""
    schedule_epochs: PositiveInt = 50
    schedule_floor: NonNegativeFloat = 0.0
    """`linear` and `cosine`: learning rate at the end, as a fraction of the peak."""
    warmup_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of all steps over which the learning rate rises from zero."""
    accelerate: bool = True
    """Exact accelerations (length-sorted batches, sparse rows); False runs RecBole's plain path."""

    @field_validator("valid_metric")
    @classmethod
    def _measured(cls, name: str) -> str:
        """A metric that validations measure; RecBole writes it in capitals."""
        if name.lower() not in VALID_METRICS:
            raise ValueError(f"expected one of {', '.join(VALID_METRICS)}")
        return name.lower()


class SequenceSettings(TrainSettings):
    """Settings of models that read a user's history as a sequence."""

    max_history: PositiveInt = 50
    """Most recent items read (RecBole's `MAX_ITEM_LIST_LENGTH`)."""
