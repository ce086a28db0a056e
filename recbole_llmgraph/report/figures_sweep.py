"""Figures of a sweep at an equal budget: a metric against an axis, and a pair of axes as a heat map.

Layouts: a row of panels for one dataset as GAL-Rec's Fig. 5, a row an axis and a column a dataset as
HeLLM's Fig. 3, and HeLLM's Fig. 4 as heat maps. All show the validation part, and say so.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recbole_llmgraph.report.figures import (
    COLOURS,
    DASHES,
    HEAT,
    MARKERS,
    letter,
    metric_name,
    panels,
    plain_ticks,
    title,
)
from recbole_llmgraph.report.leaderboard import seed_interval
from recbole_llmgraph.store.sweeps import Sweep

#: Height of a panel at least, as a share of the largest value that it shows.
LEAST_SPAN = 0.1


def curve(trials: pd.DataFrame, axis: str, metric: str) -> pd.DataFrame:
    """One row a tick: `tick, mean, low, high, seeds`; the band is the 95 % t-interval over seeds.

    Ticks are in order of size, names in order of first mention. Trials that did not finish are left out.
    """
    kept = trials[trials[metric].notna()]
    rows = []
    for tick, part in kept.groupby(axis, sort=False):
        values = part[metric].to_numpy(np.float64)
        half = seed_interval(values)
        rows.append(
            {
                "tick": tick,
                "mean": values.mean(),
                "low": values.mean() - half,
                "high": values.mean() + half,
                "seeds": len(values),
            }
        )
    frame = pd.DataFrame(rows, columns=["tick", "mean", "low", "high", "seeds"])
    numbers = pd.api.types.is_numeric_dtype(pd.Series([row["tick"] for row in rows]))
    return frame.sort_values("tick", ignore_index=True) if numbers else frame


def panel_trials(sweep: Sweep, panel: Sequence[str], dataset: str) -> pd.DataFrame:
    """Trials on exactly these axes and dataset."""
    points = [
        trial
        for trial in sweep.trials
        if set(trial.point) == set(panel) and trial.dataset == dataset and trial.status == "finished"
    ]
    return sweep.model_copy(update={"trials": points}).frame()


def curves(sweep: Sweep) -> Figure | None:
    """Metrics against each single axis; None without one. Call inside `style()`."""
    singles = [panel[0] for panel in sweep.panels if len(panel) == 1]
    if not singles:
        return None
    one_row = len(sweep.datasets) == 1
    rows, columns = (1, len(singles)) if one_row else (len(singles), len(sweep.datasets))
    if one_row and columns > 4:
        rows, columns = math.ceil(columns / 4), 4
    figure, axes = panels(rows, columns, size=(2.6, 1.9))
    flat = axes.ravel()
    handles: Mapping[str, Any] = {}
    pairs = [(axis, dataset) for axis in singles for dataset in sweep.datasets]
    for place, (axis, dataset) in enumerate(pairs):
        shown = f"{letter(place)} {axis}" if one_row else f"{letter(place)} {axis}, {dataset}"
        handles = {**handles, **_curve_panel(flat[place], sweep, axis, dataset)}
        flat[place].set_title(shown)
    for spare in flat[len(pairs) :]:
        spare.set_axis_off()
    title(figure, f"{sweep.model} on {sweep.datasets[0]}" if one_row else sweep.model, made=sweep.made)
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=max(1, len(handles)),
        fontsize=7,
    )
    return figure


def _curve_panel(axes: Axes, sweep: Sweep, axis: str, dataset: str) -> dict[str, Any]:
    """One panel: the first metric on the left, a second one on the right."""
    trials = panel_trials(sweep, [axis], dataset)
    handles: dict[str, Any] = {}
    axes.set_xlabel(axis)
    if trials.empty:
        axes.text(0.5, 0.5, "not run", ha="center", transform=axes.transAxes)
        return handles
    for number, metric in enumerate(sweep.metrics):
        side = axes if number == 0 else axes.twinx() if len(sweep.metrics) == 2 else axes
        side.spines["right"].set_visible(side is not axes)
        side.spines["top"].set_visible(False)
        found = curve(trials, axis, metric)
        places = plain_ticks(axes, list(found["tick"]))
        colour = COLOURS[number % len(COLOURS)]
        (line,) = side.plot(
            places, found["mean"], color=colour, marker=MARKERS[number % 6], linestyle=DASHES[number % 6]
        )
        if found["low"].notna().any():
            side.fill_between(places, found["low"], found["high"], color=colour, alpha=0.18, linewidth=0)
        if len(sweep.metrics) <= 2:
            side.set_ylabel(metric_name(metric), color=colour)
            side.tick_params(axis="y", colors=colour)
        _widen(side)
        handles[metric_name(metric)] = line
    _mark_base(axes, sweep, axis, dataset)
    return handles


def _widen(axes: Axes) -> None:
    """Show at least `LEAST_SPAN` of the top value, so that noise does not look like a slope."""
    low, high = axes.get_ylim()
    missing = LEAST_SPAN * abs(high) - (high - low)
    if missing > 0:
        axes.set_ylim(low - missing / 2, high + missing / 2)


def _mark_base(axes: Axes, sweep: Sweep, axis: str, dataset: str) -> None:
    """A dotted line at the preset's own value."""
    value = sweep.base.get(dataset, {}).get(axis)
    if isinstance(value, int | float) and not isinstance(value, bool) and value in sweep.ticks.get(axis, []):
        axes.axvline(value, color="0.6", linewidth=0.7, linestyle=":", zorder=0)


def heat_maps(sweep: Sweep, metric: str) -> Figure | None:
    """Every crossed pair of axes, a panel a dataset; None without a pair. Call inside `style()`."""
    pairs = [panel for panel in sweep.panels if len(panel) == 2]
    if sweep.purpose != "figure" or not pairs:
        return None
    figure, axes = panels(len(pairs), len(sweep.datasets), size=(2.9, 2.6))
    for row, (down, across) in enumerate(pairs):
        for column, dataset in enumerate(sweep.datasets):
            panel = axes[row][column]
            _heat_panel(panel, sweep, (down, across), dataset, metric)
            panel.set_title(f"{letter(row * len(sweep.datasets) + column)} {dataset}")
    title(figure, f"{sweep.model}: {metric_name(metric)}", made=sweep.made)
    return figure


def surface(trials: pd.DataFrame, down: str, across: str, metric: str) -> pd.DataFrame:
    """Mean over seeds, a row a value of `down`, a column a value of `across`, both ascending."""
    found = trials.pivot_table(index=down, columns=across, values=metric, aggfunc="mean", dropna=False)
    return found.sort_index(axis=0).sort_index(axis=1)


def _heat_panel(axes: Axes, sweep: Sweep, pair: tuple[str, str], dataset: str, metric: str) -> None:
    down, across = pair
    trials = panel_trials(sweep, pair, dataset)
    axes.set_xlabel(across)
    axes.set_ylabel(down)
    if trials.empty:
        axes.text(0.5, 0.5, "not run", ha="center", transform=axes.transAxes)
        return
    found = surface(trials, down, across, metric)
    values = found.to_numpy(np.float64)
    image = axes.imshow(values, cmap=HEAT, origin="lower", aspect="auto")
    axes.set_xticks(range(len(found.columns)), [_tick(v) for v in found.columns])
    axes.set_yticks(range(len(found.index)), [_tick(v) for v in found.index])
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if value < middle else "black"
            text = f"{value:.4f}".removeprefix("0")
            axes.text(column, row, text, ha="center", va="center", fontsize=5.5, color=colour)
    axes.figure.colorbar(image, ax=axes, shrink=0.85)


def _tick(value: Hashable) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
