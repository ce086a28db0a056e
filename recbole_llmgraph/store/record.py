"""What is kept of a finished run, as `run.json` holds it."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import (
    FiniteFloat,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    StringConstraints,
    model_validator,
)

from recbole_llmgraph.base.hashing import hash_data
from recbole_llmgraph.base.settings import Settings

#: Items taken out of every user's candidates before ranking: nothing, or the user's own training items.
Mask = Annotated[str, StringConstraints(pattern=r"^(none|train)$")]
MASKS = ("train", "none")
#: Number that rises when an older reader could misread a newer `run.json`.
SCHEMA_VERSION = 1

Part = Annotated[str, StringConstraints(pattern=r"^(valid|test)$")]
Name = Annotated[str, StringConstraints(min_length=1)]
Key = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z_-]*$")]
#: Metric name to mean over users, e.g. `{"recall@10": 0.08}`.
Means = dict[str, FiniteFloat]


class Parameters(Settings):
    """Numbers of weights."""

    total: NonNegativeInt
    """Every weight the model reads, frozen ones included."""
    trained: NonNegativeInt
    """Weights that this run's optimiser changed."""


class Cost(Settings):
    """What a run cost. None: not measured, never zero."""

    seconds_per_epoch: NonNegativeFloat | None = None
    """Mean training seconds of one epoch, validation apart."""
    seconds_to_best: NonNegativeFloat | None = None
    """Wall seconds from the first step to the end of the epoch that was kept."""
    seconds_total: NonNegativeFloat | None = None
    """Wall seconds of this run, its earlier stages apart (those have rows of their own)."""
    eval_users_per_second: NonNegativeFloat | None = None
    peak_memory_mb: NonNegativeFloat | None = None
    """Largest resident size of the process, libraries included, in MiB."""
    peak_gpu_memory_mb: NonNegativeFloat | None = None
    threads: NonNegativeInt | None = None
    tokens_in: NonNegativeInt | None = None
    tokens_out: NonNegativeInt | None = None
    money: NonNegativeFloat | None = None
    """Paid to an LLM's provider, in US dollars."""


class Code(Settings):
    """Version of the suite that made a run; recorded, never part of the key."""

    version: str
    commit: str | None = None
    dirty: bool | None = None
    """Whether tracked files differed from the commit; None when there is no repository."""


class Stage(Settings):
    """An earlier run whose result a run used; one of the same model gave it its weights."""

    model: Name
    key: str
    artifact: str | None = None
    seconds: NonNegativeFloat | None = None


class RunRecord(Settings):
    """One finished run.

    `key` is made by the caller from model, dataset fingerprint, protocol, settings, seed and
    results version.
    """

    schema_version: Literal[1] = 1
    key: Key
    model: Name
    variant: str = ""
    """Short name of the settings that differ from the preset; empty when none do."""
    dataset: Name
    protocol: Name
    preset: Name
    seed: int
    settings: dict[str, JsonValue]
    results_version: int
    split_fingerprint: Name
    test_users: NonNegativeInt | None = None
    """Users behind every test mean (rows of `per_user.parquet`)."""
    candidates: NonNegativeInt | None = None
    """Items ranked for each user, before the mask takes any out."""
    single_target: bool | None = None
    """Whether every user has one test item, so that Recall is the hit rate."""
    backbone: str | None = None
    text_encoder: str | None = None
    mask: Mask
    """Mask under which validation chose the epoch."""
    metrics: dict[Part, dict[Mask, Means]]
    """Means over users by part, mask and metric, e.g. `metrics["test"]["train"]["ndcg@10"]`."""
    best_epoch: NonNegativeInt | None = None
    """Epoch that was kept, counted from 1; 0 or None when nothing is trained by epochs."""
    epochs_run: NonNegativeInt | None = None
    budget: dict[str, JsonValue] = {}
    """What the preset allowed: epochs, pairs per epoch, minutes, …"""
    parameters: Parameters | None = None
    cost: Cost = Cost()
    environment: dict[str, JsonValue] = {}
    code: Code
    notes: list[str] = []
    stages: list[Stage] = []
    started: str = ""
    finished: str = ""
    """ISO 8601, UTC."""
    files: dict[str, str] = {}
    """SHA-256 of the files beside `run.json`; written by the store."""

    @model_validator(mode="after")
    def _plain(self) -> Self:
        """Refuse what JSON cannot say (NaN, infinity) and a run without test metrics."""
        json.dumps(self.plain(), allow_nan=False)
        if not self.metrics.get("test"):
            raise ValueError("metrics.test is empty: a run holds test metrics for at least one mask")
        return self

    def plain(self) -> dict[str, Any]:
        """Plain data for JSON; `RunRecord(**record.plain())` is equal to the record."""
        return self.model_dump(mode="json")

    def seal(self) -> str:
        """Hash over every field: a hand-edited `run.json` no longer matches it."""
        return hash_data(self.plain())
