"""The page of a sweep: its table, what was pruned, what was chosen, and its figures beside it."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llmgraph.report.columns import amount, number
from recbole_llmgraph.report.leaderboard import seed_interval
from recbole_llmgraph.report.markdown import code, escape, table
from recbole_llmgraph.report.pages import Page, write_pages
from recbole_llmgraph.report.words import mask_words
from recbole_llmgraph.store.sweeps import Sweep
from recbole_llmgraph.store.trials import Trial

GENERATED = "<!-- made by benchmarks/sweep.py from sweep.json beside it; do not edit -->"
NAMES = {
    "curves": "Metric against axis",
    "heat": "Heat map",
    "history": "Search history",
    "importance": "Importance of the axes",
    "pareto": "Accuracy against cost",
}


def write_sweep(sweep: Sweep, folder: Path) -> list[Path]:
    """Write the page and every figure that the sweep has data for; returns the files.

    Figures of an earlier sweep of this name that this one does not have are removed.
    """
    drawn = draw(sweep, folder)
    stale = {folder / f"{name}.{kind}" for name in NAMES for kind in ("pdf", "png")} - set(drawn)
    for path in stale:
        path.unlink(missing_ok=True)
    figures = [path.name for path in drawn if path.suffix == ".png"]
    page = Page("README.md", f"{GENERATED}\n{sweep_text(sweep, figures)}")
    return write_pages([page], folder) + drawn


def draw(sweep: Sweep, folder: Path) -> list[Path]:
    """Figures as PDF and PNG."""
    from recbole_llmgraph.report import figures_search, figures_sweep  # matplotlib: half a second
    from recbole_llmgraph.report.figures import save, style

    written = []
    with style():
        made = {
            "curves": figures_sweep.curves(sweep) if sweep.purpose == "figure" else None,
            "heat": figures_sweep.heat_maps(sweep, sweep.metrics[0]),
            "history": figures_search.history(sweep) if sweep.purpose == "tune" else None,
            "importance": figures_search.importance(sweep),
            "pareto": figures_search.pareto(sweep),
        }
        for name, figure in made.items():
            if figure is not None:
                written += save(figure, folder / name)
    return written


def sweep_text(sweep: Sweep, figures: Sequence[str] = ()) -> str:
    """The page as Markdown."""
    what = "sweep at an equal budget" if sweep.purpose == "figure" else f"{sweep.search} search with ASHA"
    parts = [f"# {escape(sweep.model)}: {what}\n"]
    if sweep.made:
        parts.append("**Made data**, to show the layout; nothing here was measured.\n")
    parts += [f"{_facts(sweep)}\n"]
    if sweep.purpose == "tune":
        parts.append(f"{_search_words(sweep)}\n")
    for dataset in sweep.datasets:
        parts.append(f"## {escape(dataset)}\n\n{_table(sweep, dataset)}\n")
    parts += [f"![{NAMES[Path(name).stem]}]({name})\n" for name in figures]
    return "\n".join(parts)


def _facts(sweep: Sweep) -> str:
    """What a reader must know above the numbers."""
    trials = sweep.trials
    masks = sorted({trial.mask for trial in trials})
    lines = [
        "All numbers are means over the users' **validation** targets; the test part was not opened"
        + (" but for the choice below." if sweep.purpose == "tune" else "."),
        *(f"Mask {code(mask)}: {mask_words(mask)}." for mask in masks),
        _seeds(sweep),
    ]
    lines += _shared("Protocol", [code(t.protocol) for t in trials])
    lines += _shared("Preset", [code(t.preset) for t in trials])
    lines += _shared("Epochs planned", [str(t.epochs_planned) for t in trials])
    lines += _shared("Split", [code(t.split_fingerprint) for t in trials if t.split_fingerprint])
    lines += _shared("Backbone", [code(t.backbone) for t in trials if t.backbone])
    lines += _shared("Machine", [escape(t.machine) for t in trials if t.machine])
    lines += _shared("Code", [code(_version(t)) for t in trials if t.code])
    if sweep.command:
        lines.append(f"Command: {code(sweep.command)}")
    return "\n".join(f"* {line}" for line in lines)


def _seeds(sweep: Sweep) -> str:
    told = ", ".join(map(str, sweep.seeds))
    if sweep.purpose == "tune":
        return f"Trials with seed {sweep.seeds[0]}, the choice with {told}."
    return f"Seeds {told}" + ("; ± is the 95 % interval over them." if len(sweep.seeds) > 1 else ".")


def _shared(what: str, values: Sequence[str]) -> list[str]:
    told = list(dict.fromkeys(values))
    return [f"{what}: {', '.join(told)}"] if told else []


def _version(trial: Trial) -> str:
    told = trial.code
    if told is None:
        return ""
    return f"{told.version} {(told.commit or '')[:7]}{'*' if told.dirty else ''}".strip()


def _search_words(sweep: Sweep) -> str:
    """What was pruned, what that saved, and what was chosen."""
    count = {status: sum(t.status == status for t in sweep.trials) for status in ("finished", "pruned")}
    lines = [
        f"{len(sweep.trials)} settings: {count['finished']} trained to the end, {count['pruned']} pruned"
    ]
    diverged = sum(t.status == "diverged" for t in sweep.trials)
    lines[0] += f", {diverged} diverged." if diverged else "."
    spent, saved = math.fsum(t.seconds for t in sweep.trials), saved_seconds(sweep.trials)
    if sweep.halving:
        lines.append(
            f"ASHA: first look after epoch {sweep.halving.grace}, one in {sweep.halving.factor} goes on. "
            f"Trials took {amount(spent)} s; the epochs that pruning cut would have taken about "
            f"{amount(saved)} s more ({saved / (spent + saved) if spent + saved else 0:.0%} of the whole), "
            "each at its own trial's pace."
        )
    chosen = sweep.chosen
    if chosen is not None:
        told = ", ".join(f"{axis}={_value(value)}" for axis, value in chosen.point.items())
        lines.append(f"Chosen on validation: {code(told)}, {sweep.metrics[0]} {chosen.valid:.4f}.")
    if chosen is not None and chosen.test:
        shown = ", ".join(f"{name} {value:.4f}" for name, value in sorted(chosen.test.items()))
        seeds = f"{len(chosen.keys)} seed{'s' if len(chosen.keys) > 1 else ''}"
        runs = ", ".join(code(key) for key in chosen.keys)
        lines.append(f"Its **test** part, opened for this setting alone ({seeds}): {shown}; runs {runs}.")
    return "\n".join(f"* {line}" for line in lines)


def saved_seconds(trials: Sequence[Trial]) -> float:
    """Time that pruning saved: the epochs it cut, each at its own trial's mean. An estimate."""
    return math.fsum(
        (trial.epochs_planned - trial.epochs_run) * trial.seconds / trial.epochs_run
        for trial in trials
        if trial.status == "pruned" and trial.epochs_run
    )


def _table(sweep: Sweep, dataset: str) -> str:
    """One row a point: mean over seeds of the metrics, epochs, seconds, state."""
    own = [trial for trial in sweep.trials if trial.dataset == dataset]
    groups: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in own:
        groups.setdefault(tuple(sorted(trial.point.items(), key=lambda item: item[0])), []).append(trial)
    ordered = sorted(groups.values(), key=lambda group: _order(group[0], sweep))
    if sweep.purpose == "tune":
        ordered.sort(key=lambda group: -max((t.score or -1.0 for t in group), default=-1.0))
    shown = list(sweep.metrics)
    header = [*(escape(axis) for axis in sweep.axes), *shown, "best epoch", "epochs", "seconds", "state"]
    rows = [_row(group, sweep.axes, shown) for group in ordered]
    return table(header, rows, left=0) if rows else "No trial has finished."


def _order(trial: Trial, sweep: Sweep) -> tuple[Any, ...]:
    """Panel after panel, ticks in their own order."""
    places = []
    for axis in sweep.axes:
        value, ticks = trial.point.get(axis), sweep.ticks.get(axis, [])
        if axis not in trial.point:
            places.append((2, 0.0, ""))
        elif value in ticks:
            places.append((0, float(ticks.index(value)), ""))
        else:
            number = float(value) if isinstance(value, int | float) else 0.0
            places.append((1, number, str(value)))
    return tuple(places)


def _row(group: Sequence[Trial], axes: Sequence[str], metrics: Sequence[str]) -> list[str]:
    first = group[0]
    cells = [_value(first.point[axis]) if axis in first.point else "" for axis in axes]
    for metric in metrics:
        cells.append(_measured(group, metric))
    states = Counter(trial.status for trial in group)
    told = ", ".join(state if len(group) == 1 else f"{n} {state}" for state, n in states.items())
    best = [trial.best_epoch for trial in group if trial.status == "finished"]
    return [
        *cells,
        number(float(np.mean(best)) if best else None, "{:.3g}".format),
        f"{np.mean([trial.epochs_run for trial in group]):.3g}",
        amount(float(np.mean([trial.seconds for trial in group]))),
        told,
    ]


def _measured(group: Sequence[Trial], metric: str) -> str:
    """Mean and interval over seeds; of a pruned trial the score at its end, in brackets."""
    values = [t.valid.get(t.mask, {}).get(metric) for t in group if t.status == "finished"]
    known = [value for value in values if value is not None]
    if known:
        half = seed_interval(known)
        return f"{np.mean(known):.4f}" + ("" if np.isnan(half) else f" ± {half:.4f}")
    scores = [entry.valid for t in group if t.metric == metric for entry in t.history]
    return f"({max(scores):.4f})" if scores else "–"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(value)
