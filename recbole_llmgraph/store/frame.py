"""Runs as one data frame: what reports are made from."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from recbole_llmgraph.base.hashing import canonical, hash_data
from recbole_llmgraph.store.record import RunRecord
from recbole_llmgraph.store.runs import StoredRun

#: Columns that every frame has, in this order; metric columns follow.
COLUMNS = (
    "dataset",
    "protocol",
    "mask",
    "split_fingerprint",
    "candidates",
    "preset",
    "model",
    "variant",
    "seed",
    "key",
    "group",
    "settings",
    "selection_mask",
    "single_target",
    "test_users",
    "backbone",
    "text_encoder",
    "parameters_total",
    "parameters_trained",
    "epochs_run",
    "best_epoch",
    "seconds_per_epoch",
    "seconds_to_best",
    "seconds_total",
    "eval_users_per_second",
    "peak_memory_mb",
    "peak_gpu_memory_mb",
    "tokens_in",
    "tokens_out",
    "money",
    "machine",
    "code",
    "budget",
    "notes",
    "stages",
    "folder",
)


def runs_frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """One row a run and evaluation mask.

    Columns are `COLUMNS`, then test metrics by name (`recall@10`) and validation metrics as
    `valid recall@10`. `group` is equal for runs that differ in nothing but their seed. Missing
    values are None or NaN. Rows are sorted by dataset, protocol, mask, model and key.
    """
    kept = list(runs)
    groups = run_groups([run.record for run in kept])
    rows = [_row(run, mask, groups) for run in kept for mask in sorted(run.record.metrics["test"])]
    metrics = sorted({name for row in rows for name in row if name not in COLUMNS})
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *metrics])
    return frame.sort_values(["dataset", "protocol", "mask", "model", "key"], ignore_index=True)


def _row(run: StoredRun, mask: Any, groups: Mapping[str, str]) -> dict[str, Any]:
    """One run under one evaluation mask."""
    record = run.record
    valid = record.metrics.get("valid", {}).get(mask, {})
    return {
        **{name: getattr(record, name) for name in COLUMNS if name in RunRecord.model_fields},
        **record.cost.model_dump(include=set(COLUMNS)),
        "seconds_per_epoch": run.seconds_per_epoch,
        "mask": mask,
        "group": groups[record.key],
        "settings": canonical(record.settings),
        "selection_mask": record.mask,
        "parameters_total": record.parameters.total if record.parameters else None,
        "parameters_trained": record.parameters.trained if record.parameters else None,
        "machine": machine(record.cost.threads, record.environment),
        "code": _code(record),
        "budget": canonical(record.budget),
        "notes": tuple(record.notes),
        "stages": tuple((stage.model, stage.key) for stage in record.stages),
        "folder": str(run.folder),
        **record.metrics["test"][mask],
        **{f"valid {name}": value for name, value in valid.items()},
    }


def run_groups(records: Sequence[RunRecord]) -> dict[str, str]:
    """By key: hash of everything that decides a result but the seed.

    A stage counts by the group of its own run where that run is here, else by its model's name.
    """
    by_key = {record.key: record for record in records}
    found: dict[str, str] = {}

    def group(key: str, above: frozenset[str]) -> str:
        if key not in found:
            record = by_key[key]
            seen = above | {key}
            stages = [
                group(stage.key, seen) if stage.key in by_key and stage.key not in seen else stage.model
                for stage in record.stages
            ]
            found[key] = hash_data([_seedless(record), stages])
        return found[key]

    for key in by_key:
        group(key, frozenset())
    return found


def _seedless(record: RunRecord) -> dict[str, Any]:
    """What decides a result, seed and stages apart."""
    names = {"settings", "results_version", "backbone", "text_encoder", "mask", "budget"}
    return record.model_dump(mode="json", include=names)


def machine(threads: int | None, environment: Mapping[str, Any]) -> str:
    """`2 threads, Some CPU`: what the seconds were measured on; empty when the run does not say."""
    told = [f"{threads} thread{'s' if threads != 1 else ''}" if threads else ""]
    told += [str(environment.get(name) or "") for name in ("gpu", "cpu")]
    return ", ".join(part for part in told if part)


def _code(record: RunRecord) -> str:
    """`0.1.0 1a2b3c4*`: version, commit, and a star when tracked files had been changed."""
    commit = f" {record.code.commit[:7]}" if record.code.commit else ""
    return f"{record.code.version}{commit}{'*' if record.code.dirty else ''}"
