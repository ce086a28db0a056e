"""Leaderboards for papers: a booktabs table each, by pandas' Styler."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_llmgraph.report.columns import amount, minutes, number, seeds_text
from recbole_llmgraph.report.leaderboard import Leaderboard
from recbole_llmgraph.report.markdown import marked
from recbole_llmgraph.report.notes import row_name
from recbole_llmgraph.report.pages import Page
from recbole_llmgraph.report.words import board_title, metric_title
from recbole_llmgraph.store.runs import folder_name

#: Folder of the tables, below the reports.
TABLES = Path("tables")
_SPECIAL = {
    **{letter: rf"\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
}
_MARKS = {("**", "**"): r"\textbf{{{}}}", ("<u>", "</u>"): r"\underline{{{}}}", ("", ""): "{}"}


def latex_pages(boards: Sequence[Leaderboard]) -> list[Page]:
    """A file a table; equal titles (other splits) are told apart by their split."""
    pages: dict[str, Page] = {}
    for board in boards:
        if len(board.rows):
            parts = (board.dataset, board.protocol, board.preset, board.mask)
            name = "-".join(folder_name(part) for part in parts if part)
            if name in pages:
                name = f"{name}-{board.split_fingerprint[:8]}"
            pages[name] = Page(str(TABLES / f"{name}.tex"), latex_table(board, name))
    return list(pages.values())


def latex_table(board: Leaderboard, label: str = "") -> str:
    r"""One table: needs `\usepackage{booktabs}`; best bold, second underlined.

    The caption names what all rows share, since a number without protocol and mask says nothing.
    """
    rows: list[Mapping[Any, Any]] = [dict(row) for row in board.rows.to_dict("records")]
    metrics = {
        metric_title(metric, single_target=bool(board.single_target)): _metric(rows, metric)
        for metric in board.metrics
    }
    texts = {
        "Backbone": [row["backbone"] or "–" for row in rows],
        "Seeds": [seeds_text(row) for row in rows],
        "Params": [number(row["parameters_total"], amount) for row in rows],
        "Min.": [number(row["seconds_total"], minutes) for row in rows],
    }
    safe = {title: [_escaped(cell) for cell in cells] for title, cells in texts.items()}
    names = {"Model": [_escaped(row_name(row)) for row in rows]}
    styled = pd.DataFrame({**names, **metrics, **safe}).style.hide(axis="index")
    text: str = styled.to_latex(
        hrules=True,
        position="t",
        position_float="centering",
        caption=_caption(board),
        label=f"tab:{label}" if label else None,
        column_format="l" + "r" * len(metrics) + "l" + "r" * (len(texts) - 1),
    )
    return f"% made by benchmarks/report.py from the run folders; do not edit\n{text}"


def _metric(rows: Sequence[Mapping[Any, Any]], metric: str) -> list[str]:
    r"""`\textbf{0.0813} $\pm$ 0.0005`."""
    shown = marked([row[metric] for row in rows], ["{}"] * len(rows))
    cells = []
    for row, mark in zip(rows, shown, strict=True):
        before, _, after = mark.partition("{}")
        value = _MARKS[before, after].format(number(row[metric], "{:.4f}".format).replace("–", "--"))
        half = row[f"{metric} ±"]
        cells.append(value if np.isnan(half) else rf"{value} $\pm$ {half:.4f}")
    return cells


def _caption(board: Leaderboard) -> str:
    """What all rows share."""
    users = f"{board.test_users:,} test users" if board.test_users is not None else "test users unknown"
    items = f"{board.candidates:,} candidate items" if board.candidates is not None else "all items"
    title = _escaped(
        f"{board.dataset}: {board_title(board)}; split {board.split_fingerprint}; {users}, {items}."
    )
    spread = any(len(seeds) > 1 for seeds in board.rows["seeds"])
    return title + (r" Mean $\pm$ half the 95\,\% interval over seeds." if spread else "")


def _escaped(text: str) -> str:
    """Text as text: one line, LaTeX's special characters made harmless."""
    return "".join(_SPECIAL.get(letter, letter) for letter in " ".join(text.split()))
