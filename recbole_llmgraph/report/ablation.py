"""Ablations: a whole model beside itself with parts taken out, over the same users and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from recbole_llmgraph.report.columns import amount, number
from recbole_llmgraph.report.leaderboard import KEY_LENGTH, seed_interval
from recbole_llmgraph.report.markdown import code, escape, table
from recbole_llmgraph.report.pages import Page
from recbole_llmgraph.report.paired import RESAMPLES, compare, holm
from recbole_llmgraph.report.published import PublishedTable, published_cells, published_tables
from recbole_llmgraph.report.versus import users_of
from recbole_llmgraph.report.words import mask_words
from recbole_llmgraph.store.runs import StoredRun, folder_name

GENERATED = "<!-- made by benchmarks/ablate.py from the run folders; do not edit -->"
#: Name of the whole model's row.
FULL = "full"
EXPLAINED = (
    "Δ: variant less full. Interval, p and effect are over the same users: 95 % percentile bootstrap, "
    f"two-sided sign-flip permutation ({RESAMPLES:,} resamples), mean over standard deviation of the "
    "differences (d_z). Holm adjusts p over all lines of this table. With several seeds a user's value is "
    "the mean over seeds; ± is the 95 % interval over seeds, which these tests do not cover."
)


@dataclass(frozen=True)
class Arm:
    """One row of an ablation.

    Attributes:
        name: `full`, or what is taken out.
        changes: settings by which it differs from the whole model.
        runs: one a seed, in order of seeds; empty where nothing was run.
        command: what runs it.
    """

    name: str
    changes: Mapping[str, Any]
    runs: Sequence[StoredRun]
    command: str = ""


@dataclass(frozen=True)
class PublishedArm:
    """A row of a paper's table: its name, value, and whether its metrics can be right."""

    row: str
    value: float
    feasible: bool
    mask: str


def ablation_frame(
    arms: Sequence[Arm], mask: str, metrics: Sequence[str], resamples: int = RESAMPLES
) -> pd.DataFrame:
    """One row an arm and metric, the whole model first.

    Columns: `arm metric mean half seeds difference relative low high p holm effect`; the whole model's
    own differences are NaN. `half` is that of the 95 % interval over seeds.

    Raises:
        ValueError: when the whole model has no runs, or a variant other seeds than it.
    """
    full = next(arm for arm in arms if arm.name == FULL)
    if not full.runs:
        raise ValueError("the whole model was not run: there is nothing to compare with")
    base = _users(full, mask)
    rows: list[dict[str, Any]] = []
    for arm in arms:
        if not arm.runs:
            continue
        if _seeds(arm) != _seeds(full):
            raise ValueError(f"{arm.name} has seeds {_seeds(arm)}, the whole model {_seeds(full)}")
        found = None if arm is full else compare(_users(arm, mask), base, metrics, resamples)
        told = {} if found is None else {row["metric"]: row for row in found.to_dict("records")}
        rows += [_row(arm, metric, mask, told.get(metric)) for metric in metrics]
    frame = pd.DataFrame(rows)
    frame["holm"] = np.nan
    tested = frame["p"].notna()
    frame.loc[tested, "holm"] = holm(frame.loc[tested, "p"])
    return frame


def _users(arm: Arm, mask: str) -> pd.DataFrame:
    return users_of([str(run.folder) for run in arm.runs], mask)


def _seeds(arm: Arm) -> list[int]:
    return [run.record.seed for run in arm.runs]


def _row(arm: Arm, metric: str, mask: Any, paired: Mapping[Any, Any] | None) -> dict[str, Any]:
    values = [run.record.metrics["test"][mask].get(metric, np.nan) for run in arm.runs]
    row: dict[str, Any] = {
        "arm": arm.name,
        "metric": metric,
        "mean": float(np.mean(values)),
        "half": seed_interval(values),
        "seeds": len(values),
    }
    if paired is None:
        return row | dict.fromkeys(("difference", "relative", "low", "high", "p", "effect"), np.nan)
    names = {"difference": "difference", "low": "low", "high": "high", "p": "p_permutation"}
    told = {name: float(paired[of]) for name, of in names.items()}
    whole = float(paired["mean_b"])
    relative = told["difference"] / whole if whole else np.nan
    return row | told | {"relative": relative, "effect": float(paired["effect"])}


def published_arms(
    arms: Sequence[Arm], model: str, dataset: str
) -> tuple[PublishedTable | None, dict[tuple[str, str], PublishedArm]]:
    """The paper's numbers for these arms by (arm, metric), and the table they stand in.

    A published row is an arm when its settings are those of a published whole model, which our whole
    model has too, and the arm's changes.
    """
    full = next(arm for arm in arms if arm.name == FULL)
    settings = full.runs[0].record.settings if full.runs else {}
    best: tuple[PublishedTable | None, dict[str, str]] = (None, {})
    for known in published_tables().values():
        cards = {row: card for row, card in known.rows.items() if card.model == model}
        for name, base in cards.items():
            if all(key in settings and settings[key] == value for key, value in base.set.items()):
                found = {FULL: name}
                for arm in arms:
                    wanted = {**base.set, **arm.changes}
                    rows = [row for row, card in cards.items() if card.set == wanted]
                    if arm.changes and rows:
                        found[arm.name] = rows[0]
                best = max(best, (known, found), key=lambda pair: len(pair[1]))
    chosen, names = best
    if chosen is None or len(names) < 2:
        return None, {}
    return chosen, _cells(chosen, names, dataset)


def _cells(
    known: PublishedTable, names: Mapping[str, str], dataset: str
) -> dict[tuple[str, str], PublishedArm]:
    own = {row: arm for arm, row in names.items()}
    return {
        (own[cell.row], cell.metric): PublishedArm(
            cell.row, cell.value, cell.feasible, known.rows[cell.row].mask or known.mask
        )
        for cell in published_cells(known)
        if cell.row in own and cell.dataset == dataset
    }


def ablation_page(arms: Sequence[Arm], mask: str, metrics: Sequence[str]) -> Page:
    """The ablation of one model on one dataset.

    Args:
        arms: the whole model and its variants; at least the whole model has runs.
        mask: evaluation mask.
        metrics: tested and shown.
    """
    first = next(run.record for arm in arms if arm.name == FULL for run in arm.runs)
    frame = ablation_frame(arms, mask, metrics)
    known, published = published_arms(arms, first.model, first.dataset)
    parts = [
        GENERATED,
        f"# {escape(first.model)} on {escape(first.dataset)}: what each part adds\n",
        f"{_facts(arms, mask)}\n",
        f"{EXPLAINED}\n",
        f"{_table(frame, arms, published)}\n",
    ]
    if known is not None and published:
        masks = ", ".join(sorted({code(cell.mask) for cell in published.values()}))
        note = f"Published: {escape(known.title)} ({escape(known.paper)}), mask {masks}"
        note += f", {escape(known.backbone)}" if known.backbone else ""
        parts.append(f"{note}. Its change is against the published whole model; struck out: the row's own "
                     "metrics contradict each other.\n")  # fmt: skip
    missing = [arm for arm in arms if not arm.runs]
    if missing:
        parts.append("Not run:\n\n" + "\n".join(f"* {escape(a.name)}: {code(a.command)}" for a in missing))
    names = [first.model, first.dataset, *([first.variant] if first.variant else [])]
    return Page(f"{'-'.join(map(folder_name, names))}.md", "\n".join(parts))


def page_text(page: Page) -> str:
    """A page for the terminal."""
    return page.text.removeprefix(f"{GENERATED}\n")


def _facts(arms: Sequence[Arm], mask: str) -> str:
    records = [run.record for arm in arms for run in arm.runs]
    first = records[0]
    users = f"{first.test_users:,} users; " if first.test_users else ""
    lines = [
        f"Protocol {code(first.protocol)}, preset {code(first.preset)}, split "
        f"{code(first.split_fingerprint)}, {users}seeds {', '.join(str(s) for s in _seeds(arms[0]))}",
        f"Mask {code(mask)}: {mask_words(mask)}",
    ]
    if first.variant:
        lines.append(f"Beside the preset all rows have {code(first.variant)}")
    if first.backbone:
        lines.append(f"Backbone {code(first.backbone)}")
    budgets = sorted({", ".join(f"{k} {v}" for k, v in sorted(r.budget.items())) for r in records})
    lines.append(f"Budget: {'; '.join(escape(budget) for budget in budgets)}")
    return "\n".join(f"* {line}" for line in lines)


def _table(
    frame: pd.DataFrame, arms: Sequence[Arm], published: Mapping[tuple[str, str], PublishedArm]
) -> str:
    header = ["variant", "settings", "metric", "value", "Δ", "Δ %", "95 % interval", "p", "Holm", "effect"]
    header += ["published", "published Δ %"] if published else []
    header += ["s/epoch", "seconds", "trained parameters", "run"]
    by_name = {arm.name: arm for arm in arms}
    rows, before = [], ""
    for row in frame.to_dict("records"):
        arm = by_name[row["arm"]]
        new = row["arm"] != before
        before = row["arm"]
        settings = " ".join(f"{key}={value}" for key, value in arm.changes.items())
        cells = [escape(arm.name) if new else "", code(settings) if new and settings else "", row["metric"]]
        cells += _measured(row)
        if published:
            cells += _published(row["arm"], row["metric"], published)
        rows.append([*cells, *(_cost(arm) if new else [""] * 4)])
    return table(header, rows, left=3)


def _measured(row: Mapping[Any, Any]) -> list[str]:
    half = "" if np.isnan(row["half"]) else f" ± {row['half']:.4f}"
    interval = "" if np.isnan(row["low"]) else f"{row['low']:+.4f} … {row['high']:+.4f}"
    return [
        f"{row['mean']:.4f}{half}",
        _shown(row["difference"], "{:+.4f}"),
        _shown(row["relative"], "{:+.1%}"),
        interval,
        _p(row["p"]),
        _p(row["holm"]),
        _shown(row["effect"], "{:+.3f}"),
    ]


def _published(arm: str, metric: str, published: Mapping[tuple[str, str], PublishedArm]) -> list[str]:
    cell, whole = published.get((arm, metric)), published.get((FULL, metric))
    if cell is None:
        return ["", ""]
    text = f"{cell.value:.4f}" if cell.feasible else f"~~{cell.value:.4f}~~"
    change = f"{cell.value / whole.value - 1:+.1%}" if whole and arm != FULL else ""
    return [text, change]


def _cost(arm: Arm) -> list[str]:
    records = [run.record for run in arm.runs]
    told = [
        _mean([run.seconds_per_epoch for run in arm.runs]),
        _mean([r.cost.seconds_total for r in records]),
        _mean([r.parameters.trained if r.parameters else None for r in records]),
    ]
    keys = ", ".join(code(record.key[:KEY_LENGTH]) for record in records)
    return [*(number(value, amount) for value in told), keys]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _shown(value: float, form: str) -> str:
    return "" if np.isnan(value) else form.format(value)


def _p(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}" if value >= 0.00005 else "&lt;0.0001"
