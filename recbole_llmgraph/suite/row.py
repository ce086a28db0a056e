"""A cell that was trained, and what its row says."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from recbole_llmgraph.host.dataset import Split
from recbole_llmgraph.host.evaluation import Judge, Judgement
from recbole_llmgraph.oracle.cost import spent, together
from recbole_llmgraph.store.epochs import SELECTING
from recbole_llmgraph.store.record import Code, Cost, Parameters, RunRecord, Stage
from recbole_llmgraph.suite.cell import Cell, selection_mask, variant_name
from recbole_llmgraph.suite.measure import code_version, environment, parameter_counts, peak_memory_mb
from recbole_llmgraph.suite.provide import Provided
from recbole_llmgraph.train.checkpoint import Progress


@dataclass
class Opened:
    """A model and all that judges it.

    Attributes:
        given: what it stands on.
        split, model, judge: the data, the model, and who judges it.
        work: folder of what is not finished.
        started, clock: when this sitting began, as a date and as `time.perf_counter()`.
    """

    given: Provided
    split: Split
    model: Any
    judge: Judge
    work: Path
    started: datetime
    clock: float


@dataclass
class Sitting(Opened):
    """A trained cell that nobody has judged; `progress` says how the training went."""

    progress: Progress


@dataclass
class Fitted(Sitting):
    """A trained cell that nobody has judged on the test part.

    Attributes:
        valid: what validation says.
        ended: when this sitting did, by `time.perf_counter()`.
    """

    valid: Judgement
    ended: float


def history_of(sitting: Sitting, fitted: Fitted | None) -> list[dict[str, Any]]:
    """The log of epochs; those that selected on a hold-out come first, under their own phase."""
    told = sitting.progress.history
    if fitted is None or fitted.progress is sitting.progress:
        return told
    return [{**entry, "phase": f"{SELECTING} {entry['phase']}"} for entry in fitted.progress.history] + told


def record_of(cell: Cell, key: str, sitting: Sitting, fitted: Fitted | None, test: Judgement) -> RunRecord:
    """Everything a row needs to be believed."""
    given, split, model, progress = sitting.given, sitting.split, sitting.model, sitting.progress
    metrics: Any = (
        {"test": test.metrics} if fitted is None else {"valid": fitted.valid.metrics, "test": test.metrics}
    )
    best = fitted.progress.best_epoch if fitted else 0
    return RunRecord(
        key=key,
        model=cell.model.name,
        variant=variant_name(cell),
        dataset=cell.dataset.name,
        protocol=cell.protocol,
        preset=cell.preset,
        seed=cell.seed,
        settings=_settings(cell, given),
        results_version=cell.model.results_version,
        split_fingerprint=split.fingerprint,
        test_users=len(test.users),
        candidates=split.n_items - 1,
        single_target=bool(len(test.users) == len(split.test._dataset)),
        backbone=getattr(model, "backbone_name", None) or given.backbone,
        text_encoder=given.text_encoder,
        mask=selection_mask(cell),
        metrics=metrics,
        best_epoch=best or progress.epochs_run,
        epochs_run=progress.epochs_run,
        budget={"epochs": cell.settings.epochs, "stopping_step": cell.settings.stopping_step},
        parameters=Parameters(**parameter_counts(model)),
        cost=_cost(sitting, fitted, test),
        environment=environment(),
        code=Code(**code_version()),
        notes=[*given.notes, *getattr(model, "notes", [])],
        stages=given.stages,
        started=(fitted or sitting).started.isoformat(timespec="seconds"),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _settings(cell: Cell, given: Provided) -> dict[str, Any]:
    """What decided the run: no paths."""
    return {k: v for k, v in cell.settings.model_dump().items() if k not in given.paths}


def judged_again(cell: Cell, key: str, trained: RunRecord, sitting: Opened, test: Judgement) -> RunRecord:
    """Row of a cell that another one was trained for: its training, and its own word on the test part.

    The training's price is counted here too.
    """
    seconds = (trained.cost.seconds_total or 0.0) + time.perf_counter() - sitting.clock
    own = _asked(sitting) | {
        "seconds_total": seconds,
        "eval_users_per_second": test.users_per_second,
        "peak_memory_mb": max(trained.cost.peak_memory_mb or 0.0, peak_memory_mb()),
        "threads": torch.get_num_threads(),
    }
    changes = {
        "key": key,
        "variant": variant_name(cell),
        "settings": _settings(cell, sitting.given),
        "backbone": trained.backbone or sitting.given.backbone,
        "metrics": {**trained.metrics, "test": test.metrics},
        "parameters": Parameters(**parameter_counts(sitting.model)),
        "cost": trained.cost.model_copy(update=own),
        "environment": environment(),
        "code": Code(**code_version()),
        "notes": [*sitting.given.notes, *getattr(sitting.model, "notes", [])],
        "stages": [*sitting.given.stages, Stage(model=trained.model, key=trained.key)],
        "started": sitting.started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {},
    }
    return trained.model_copy(update=changes)


def _cost(sitting: Sitting, fitted: Fitted | None, test: Judgement) -> Cost:
    """What a run cost, selecting included; stages that were trained between both parts are not."""
    first = fitted or sitting
    seconds = time.perf_counter() - sitting.clock
    if fitted is not None and fitted is not sitting:
        seconds += fitted.ended - fitted.clock
    cost = cost_of(sitting.progress, test, seconds)
    cost = cost.model_copy(update=_asked(sitting))
    if first.progress is sitting.progress:
        return cost
    trained = first.progress.train_seconds + sitting.progress.train_seconds
    total = max(cost.seconds_total or 0.0, trained)
    return cost.model_copy(update={"seconds_to_best": trained, "seconds_total": total})


def _asked(sitting: Opened) -> dict[str, Any]:
    """Tokens and money of what the run stands on, and of what its model asked while it was judged."""
    return spent(together(sitting.given.costs, getattr(sitting.model, "asked", {})))


def cost_of(progress: Progress, test: Judgement, seconds: float) -> Cost:
    """What a run cost; of a resumed run, the longer of its training time and its last sitting."""
    return Cost(
        seconds_per_epoch=progress.train_seconds / max(1, progress.epochs_run),
        seconds_to_best=progress.seconds_to_best or progress.train_seconds,
        seconds_total=max(seconds, progress.train_seconds),
        eval_users_per_second=test.users_per_second,
        peak_memory_mb=peak_memory_mb(),
        threads=torch.get_num_threads(),
    )


def headline(record: RunRecord) -> str:
    """Test metrics in a line."""
    found = record.metrics["test"][record.mask]
    return f"test R@20 {found['recall@20']:.4f}  N@20 {found['ndcg@20']:.4f} (mask {record.mask})"
