"""Leaderboards as the site shows them: plain text in cells, which templates escape."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from recbole_llmgraph.report.charts import Chart, Point, chart
from recbole_llmgraph.report.columns import ABSENT, columns, number
from recbole_llmgraph.report.groups import GroupTable, beyond, group_tables, split_facts
from recbole_llmgraph.report.leaderboard import KEY_LENGTH, ORDER_BY, Leaderboard
from recbole_llmgraph.report.notes import notes, row_name
from recbole_llmgraph.report.spread import user_half
from recbole_llmgraph.report.words import board_facts, board_title, metric_title
from recbole_llmgraph.store.runs import folder_name

Row = Mapping[Any, Any]
#: Values of one setting that make a chart of it.
SWEEP = 3


def run_href(dataset: str, model: str, key: str) -> str:
    """Address of a run's page, from the index."""
    return f"runs/{folder_name(dataset)}-{folder_name(model)}-{key}.html"


def row_href(board: Leaderboard, row: Row) -> str:
    """Address of the first run behind a row."""
    return run_href(board.dataset, row["model"], row["keys"][0])


def board_view(board: Leaderboard) -> dict[str, Any]:
    """One table."""
    rows = board.rows.to_dict("records")
    told = columns(board)
    heads = [{"title": "model", "about": "", "kind": "text", "cost": False}]
    for metric in board.metrics:
        title = metric_title(metric, single_target=bool(board.single_target))
        heads.append(
            {"title": title, "about": f"{metric}, mean ± over seeds", "kind": "number", "cost": False}
        )
    about = f"half the 95 % interval of {ORDER_BY} over test users"
    heads.append({"title": "± users", "about": about, "kind": "number", "cost": False})
    shown = {"seeds", "backbone"}
    heads += [
        {"title": c.title, "about": c.about, "kind": _kind(c, rows), "cost": c.title not in shown}
        for c in told
    ]
    heads.append({"title": "run", "about": "", "kind": "text", "cost": False})
    return {
        "dataset": board.dataset,
        "protocol": board.protocol,
        "mask": board.mask,
        "preset": board.preset,
        "selected": board.mask in set(board.rows["selection_mask"]),
        "title": board_title(board),
        "facts": board_facts(board),
        "heads": heads,
        "rows": list(_rows(board, rows, told, shown)),
        "notes": notes(board),
        "charts": [*_cost_charts(board, rows), *_sweep_charts(board, rows)],
        "groups": [group_view(table, board) for table in group_tables(board)],
        "beyond": beyond_view(board, rows),
    }


def _kind(column: Any, rows: Sequence[Row]) -> str:
    """`number` or `text`, as the column sorts."""
    return "text" if any(isinstance(column.value(row), str) for row in rows) else "number"


def _rows(
    board: Leaderboard, rows: Sequence[Row], told: Sequence[Any], shown: set[str]
) -> Iterator[dict[str, Any]]:
    """Rows with their cells."""
    places = {metric: _places(rows, metric) for metric in board.metrics}
    for row in rows:
        cells: list[dict[str, Any]] = []
        for metric in board.metrics:
            half = row[f"{metric} ±"]
            text, mark = number(row[metric], "{:.4f}".format), places[metric].get(round(row[metric], 4), "")
            cells.append(_cell(text, row[metric], mark, "" if np.isnan(half) else f"{half:.4f}"))
        spread = user_half(row, board.mask, ORDER_BY)
        cells.append(_cell(number(spread, "{:.4f}".format), spread))
        for column in told:
            cost = "" if column.title in shown else "cost"
            cells.append(_cell(column.text(row), column.value(row), cost))
        keys = [(key[:KEY_LENGTH], run_href(board.dataset, row["model"], key)) for key in row["keys"]]
        cells.append(_cell("", row["keys"][0], runs=keys))
        name = row_name(row)
        words = (name, row["backbone"], row["text_encoder"], *row["keys"])
        yield {
            "name": name,
            "href": row_href(board, row),
            "backbone": row["backbone"] or "none",
            "search": " ".join(str(word) for word in words if word).lower(),
            "cells": cells,
        }


def _cell(
    text: str, value: float | str | None, cls: str = "", half: str = "", runs: Sequence[tuple[str, str]] = ()
) -> dict[str, Any]:
    """A cell: what it says and sorts by; its class, its interval over seeds, or links to runs."""
    return {"text": text, "value": _value(value), "cls": cls, "half": half, "runs": runs}


def _places(rows: Sequence[Row], metric: str) -> dict[float, str]:
    """Class of the best and of the second best value, as they print."""
    values = sorted({round(row[metric], 4) for row in rows if not np.isnan(row[metric])}, reverse=True)
    return dict(zip(values[:2], ("first", "second"), strict=False)) if len(rows) > 1 else {}


def _value(value: float | str | None) -> str:
    """What a cell sorts by; empty where it is missing."""
    if value is None or isinstance(value, str):
        return value or ""
    return "" if np.isnan(value) else f"{value:.7g}"


def _cost_charts(board: Leaderboard, rows: Sequence[Row]) -> list[Chart]:
    """Accuracy against what it cost."""
    axes = (("seconds_total", "minutes of training", 60.0), ("parameters_total", "parameters", 1.0))
    made = []
    for name, title, unit in axes:
        points = [
            Point(row[name] / unit, row[ORDER_BY], row_name(row), row_href(board, row), bool(row["backbone"]))
            for row in rows
        ]
        caption = "Second colour: with a language model. Earlier stages have points of their own."
        what = metric_title(ORDER_BY)
        made.append(chart(points, f"{what} against {title}", (title, what), caption=caption, log_x=True))
    return [one for one in made if one is not None]


def _sweep_charts(board: Leaderboard, rows: Sequence[Row]) -> list[Chart]:
    """A line for every setting of which one model has several values, all else equal."""
    found: dict[tuple[str, str, str], dict[float, Row]] = defaultdict(dict)
    for row in rows:
        settings = json.loads(row["settings"])
        for key, value in settings.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                others = json.dumps({k: v for k, v in settings.items() if k != key}, sort_keys=True)
                found[row["model"], key, others].setdefault(float(value), row)
    made = []
    for (model, key, _), values in sorted(found.items()):
        if len(values) >= SWEEP:
            points = [
                Point(value, row[ORDER_BY], row_name(row), row_href(board, row))
                for value, row in sorted(values.items())
            ]
            what = metric_title(ORDER_BY)
            made.append(chart(points, f"{model}: {what} by {key}", (key, what), lines=True))
    return [one for one in made if one is not None]


def group_view(table: GroupTable, board: Leaderboard) -> dict[str, Any]:
    """A table of groups; bars of one table share one scale."""
    top = max((value for line in table.values for value, _ in line if not np.isnan(value)), default=0.0)
    lines = []
    for row, values in zip(table.rows, table.values, strict=True):
        cells = [
            {
                "text": number(value, "{:.4f}".format),
                "half": "" if np.isnan(half) else f"{half:.4f}",
                "width": 0 if not top or np.isnan(value) else round(100 * value / top, 1),
            }
            for value, half in values
        ]
        lines.append({"name": row_name(row), "href": row_href(board, row), "cells": cells})
    groups = [(name, f"{size:,}") for name, size in table.groups]
    metric = metric_title(table.metric)
    return {"title": table.title, "about": table.about, "metric": metric, "groups": groups, "lines": lines}


def beyond_view(board: Leaderboard, rows: Sequence[Row]) -> dict[str, Any] | None:
    """Measures beside accuracy; None where no run counted its items."""
    facts = split_facts(board)
    found = [(row, beyond(row, board, facts)) for row in rows] if facts is not None else []
    known = [(row, told) for row, told in found if told is not None]
    if not known:
        return None
    encoders = sorted({encoder for _, told in known for encoder in told.diversity})
    lines = []
    for row, told in known:
        diverse = [number(told.diversity.get(encoder), "{:.3f}".format) for encoder in encoders]
        cells = [
            f"{told.coverage:.3f}",
            f"{told.gini:.3f}",
            f"{told.novelty:.2f}",
            f"{told.tail:.3f}",
            *diverse,
        ]
        lines.append({"name": row_name(row), "href": row_href(board, row), "cells": cells})
    about = (
        "Coverage: share of items in at least one list. Gini: 0, all items shown alike; 1, one alone. "
        "Novelty: bits, high for rare items. Tail: share of shown items that are tail or new. Diversity: "
        "mean cosine distance between the texts of two items of a list, by what read them; "
        f"{ABSENT} where that encoder had not met the texts."
    )
    heads = ["model", "coverage", "Gini", "novelty", "tail", *(f"diversity, {name}" for name in encoders)]
    return {"about": about, "heads": heads, "rows": lines}
