"""A page a run: everything its folder tells, as plain text that the template escapes."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_llmgraph.report.charts import Chart, Point, chart
from recbole_llmgraph.report.columns import amount
from recbole_llmgraph.report.pages import contamination
from recbole_llmgraph.report.site_boards import run_href
from recbole_llmgraph.report.words import mask_words, metric_title, preset_words, protocol_words
from recbole_llmgraph.store.epochs import number, read_epochs
from recbole_llmgraph.store.record import RunRecord
from recbole_llmgraph.store.runs import StoredRun


def run_view(run: StoredRun, siblings: Sequence[StoredRun], keys: Mapping[str, str]) -> dict[str, Any]:
    """One run.

    Args:
        run: the run.
        siblings: runs of the same settings and other seeds.
        keys: key to address, of every run that has a page.
    """
    record = run.record
    name = f"{record.model} ({record.variant})" if record.variant else record.model
    title = f"{name} on {record.dataset}, seed {record.seed}"
    return {
        "title": title,
        "summary": f"Protocol {record.protocol}: {protocol_words(record.protocol)}. "
        f"Preset {record.preset}: {preset_words(record.preset)}.",
        "metric_heads": ["part and mask", *(metric_title(metric) for metric in _metrics(record))],
        "metrics": list(_metric_lines(record)),
        "charts": list(_curves(run)),
        "parts": list(_parts(record)),
        "notes": record.notes,
        "links": list(_links(record, siblings, keys)),
        "command": run_words(record),
    }


def _metrics(record: RunRecord) -> list[str]:
    """Metrics of any part and mask, by kind and cut-off."""
    names = {name for masks in record.metrics.values() for means in masks.values() for name in means}

    def order(name: str) -> tuple[str, int]:
        kind, _, k = name.partition("@")
        return kind, int(k) if k.isdigit() else 0

    return sorted(names, key=order)


def _metric_lines(record: RunRecord) -> Iterator[list[str]]:
    """A line a part and mask."""
    for part, masks in sorted(record.metrics.items()):
        for mask, means in sorted(masks.items()):
            chosen = ", chose the epoch" if (part, mask) == ("valid", record.mask) else ""
            cells = [f"{means[name]:.4f}" if name in means else "–" for name in _metrics(record)]
            yield [f"{part}, mask {mask}{chosen}", *cells]


def _parts(record: RunRecord) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Titles with names and values."""
    unknown = {"schema_version", "files", "metrics", "settings", "budget", "environment", "cost", "code"}
    unknown |= {"notes", "stages", "parameters"}
    facts = {key: value for key, value in record.plain().items() if key not in unknown}
    masks = [(f"mask {mask}", mask_words(mask)) for mask in sorted(record.metrics["test"])]
    known = contamination(record.dataset)
    told = [("contamination of public language models", known)] if known else []
    yield "What was run", [*_pairs(facts), *masks, *told]
    yield "Budget", _pairs(record.budget)
    parameters = record.parameters.model_dump() if record.parameters else {}
    yield (
        "Cost",
        _pairs({**{f"parameters {k}": v for k, v in parameters.items()}, **record.cost.model_dump()}),
    )
    yield "Settings", _pairs(record.settings)
    yield "Code and machine", _pairs({**record.code.model_dump(), **record.environment})


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values that are known, as text."""
    told = []
    for key, value in values.items():
        if value is None or value == "":
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        told.append((key.replace("_", " "), f"{value:,}" if number and abs(value) >= 10_000 else text))
    return told


def _links(
    record: RunRecord, siblings: Sequence[StoredRun], keys: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Earlier stages and other seeds: what, name, address from a run's page ('' without one)."""
    for stage in record.stages:
        yield (
            "stands on",
            f"{stage.model} {stage.key}",
            Path(keys[stage.key]).name if stage.key in keys else "",
        )
    for other in siblings:
        if other.record.seed != record.seed:
            address = run_href(other.record.dataset, other.record.model, other.record.key)
            yield "the same with", f"seed {other.record.seed}", Path(address).name


def run_words(record: RunRecord) -> str:
    """Command that makes a run of the suite's own again; its changes of settings stand in its variant."""
    quoted = [shlex.quote(f"{record.model}.{part}") for part in record.variant.split() if "=" in part]
    told = {"model": record.model, "dataset": record.dataset, "preset": record.preset}
    told |= {"protocol": record.protocol, "seeds": str(record.seed)}
    options = [f"--{name}={shlex.quote(value)}" for name, value in told.items()]
    return " ".join(["python benchmarks/run.py", *options, *(f"--set {change}" for change in quoted)])


def _curves(run: StoredRun) -> Iterator[Chart]:
    """Loss and validation by epoch, where the log lies beside the run."""
    rows = read_epochs(run.folder)
    for column, title, form in (("loss", "training loss", amount), ("valid", "validation", "{:.4f}".format)):
        points = []
        for place, row in enumerate(rows, start=1):
            value = number(row.get(column))
            if value is not None:
                points.append(Point(place, value, f"{row.get('phase')} {row.get('epoch')}", ""))
        made = chart(points, f"{title} by epoch", ("epoch", column), lines=True, form=form)
        if made is not None:
            yield made
