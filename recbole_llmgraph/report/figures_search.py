"""Figures of a search: how it went, what mattered, and accuracy against cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from recbole_llmgraph.report.figures import COLOURS, DASHES, MARKERS, letter, metric_name, panels, title
from recbole_llmgraph.store.sweeps import Sweep

_ENDS = {"finished": (COLOURS[0], "o"), "pruned": (COLOURS[4], "v")}


def history(sweep: Sweep) -> Figure | None:
    """Score by trial with the best so far, and every trial's course by epoch; call inside `style()`."""
    trials = sweep.frame()
    shown = trials[trials["status"].isin(list(_ENDS))].sort_values("order") if len(trials) else trials
    if shown.empty:
        return None
    figure, ((left, right),) = panels(1, 2, size=(3.2, 2.2))
    for status, part in shown.groupby("status"):
        colour, marker = _ENDS[str(status)]
        left.scatter(part["order"], part["score"], s=14, color=colour, marker=marker, label=status, zorder=2)
    best = shown["score"].where(shown["status"] == "finished").cummax().ffill()
    left.step(shown["order"], best, where="post", color="0.4", linewidth=0.9, label="best so far", zorder=1)
    left.set_xlabel("trial, in order of its end")
    left.set_ylabel(f"validation {metric_name(sweep.metrics[0])}")
    figure.legend(loc="outside lower center", ncols=3)
    for trial in sweep.trials:
        if trial.history and trial.status in _ENDS:
            colour, marker = _ENDS[trial.status]
            epochs = [entry.epoch for entry in trial.history]
            scores = [entry.valid for entry in trial.history]
            right.plot(epochs, scores, color=colour, alpha=0.6, linewidth=0.8)
            right.plot(epochs[-1:], scores[-1:], color=colour, marker=marker, markersize=3)
    right.set_xlabel("epoch")
    for place, axes in enumerate((left, right)):
        axes.set_title(letter(place), loc="left")
    title(figure, f"{sweep.model} on {', '.join(sweep.datasets)}: the search", made=sweep.made)
    return figure


def importance(sweep: Sweep) -> Figure | None:
    """Share of the score's variance by axis; None where the search was too small to say."""
    if not sweep.importance:
        return None
    shares = dict(sorted(sweep.importance.items(), key=lambda item: item[1]))
    figure, ((axes,),) = panels(1, 1, size=(3.4, 0.7 + 0.28 * len(shares)))
    bars = axes.barh(list(shares), list(shares.values()), color=COLOURS[0], height=0.6)
    axes.bar_label(bars, labels=[f"{share:.0%}" for share in shares.values()], padding=2, fontsize=7)
    axes.set_xlim(0, 1.08)
    axes.set_xlabel(f"share of variance of {metric_name(sweep.metrics[0])} (fANOVA)")
    title(figure, f"{sweep.model} on {', '.join(sweep.datasets)}: what mattered", made=sweep.made)
    return figure


def front(cost: Sequence[float] | np.ndarray, score: Sequence[float] | np.ndarray) -> np.ndarray:
    """Places of the points that no other beats at both: lower or equal cost and higher or equal score,
    one of them strictly. By cost, ascending.
    """
    order = sorted(range(len(cost)), key=lambda place: (cost[place], -score[place], place))
    kept: list[int] = []
    for place in order:
        if not kept or score[place] > score[kept[-1]]:
            kept.append(place)
    return np.asarray(kept, dtype=np.int64)


def costs(sweep: Sweep, metric: str) -> pd.DataFrame:
    """One row a setting and dataset, means over its finished seeds: `dataset, point, seconds, score`."""
    rows = [
        (trial.dataset, _point_text(trial.point), trial.seconds, trial.valid[trial.mask][metric])
        for trial in sweep.trials
        if trial.status == "finished" and trial.seconds > 0 and metric in trial.valid.get(trial.mask, {})
    ]
    frame = pd.DataFrame(rows, columns=["dataset", "point", "seconds", "score"])
    return frame.groupby(["dataset", "point"], as_index=False).mean()


def pareto(sweep: Sweep) -> Figure | None:
    """Validation score against time of every finished trial, with the front; None for fewer than two."""
    metric = sweep.metrics[0]
    shown = costs(sweep, metric)
    if len(shown) < 2:
        return None
    figure, axes = panels(1, len(sweep.datasets), size=(3.2, 2.4))
    for place, dataset in enumerate(sweep.datasets):
        panel, part = axes[0][place], shown[shown["dataset"] == dataset]
        cost, score = part["seconds"].to_numpy(np.float64), part["score"].to_numpy(np.float64)
        best = front(cost, score)
        panel.scatter(cost, score, s=14, color=COLOURS[5], marker=MARKERS[0], label="settings")
        panel.plot(
            cost[best], score[best], color=COLOURS[1], marker=MARKERS[1], linestyle=DASHES[1], label="front"
        )
        for number, point in enumerate(best, start=1):
            at = (cost[point], score[point])
            panel.annotate(str(number), at, xytext=(-3, 4), textcoords="offset points", fontsize=6)
        listed = "\n".join(f"{n} {part['point'].iloc[point]}" for n, point in enumerate(best, start=1))
        panel.text(1.02, 1.0, listed, transform=panel.transAxes, va="top", fontsize=6)
        panel.set_title(f"{letter(place)} {dataset}" if len(sweep.datasets) > 1 else dataset)
        panel.set_xlabel("seconds, training and validation")
        panel.set_ylabel(f"validation {metric_name(metric)}")
        panel.margins(x=0.12, y=0.12)
        panel.legend(loc="lower left", bbox_to_anchor=(1.0, 0.0))
    title(figure, f"{sweep.model}: accuracy against cost", made=sweep.made)
    return figure


def _point_text(point: Mapping[str, Any]) -> str:
    """`tau=0.3`, the axes that a trial lies on."""
    return " ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in sorted(point.items()))
