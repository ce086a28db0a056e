"""Markdown: hostile text made harmless, tables, and one leaderboard as a section of a page."""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from recbole_llmgraph.report.columns import ABSENT, columns, number
from recbole_llmgraph.report.leaderboard import KEY_LENGTH, ORDER_BY, Leaderboard
from recbole_llmgraph.report.notes import notes
from recbole_llmgraph.report.spread import user_half
from recbole_llmgraph.report.words import board_facts, board_title, metric_title


def escape(text: object) -> str:
    """Text as text: no markup, no HTML, no new cell, no new line."""
    plain = re.sub(r"\s+", " ", str(text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#!$])", r"\\\1", plain)


def code(text: object) -> str:
    """Text in a code span, where only backticks and cell bars need care."""
    plain = re.sub(r"\s+", " ", str(text)).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Pipe table of ready cells, padded so that it reads in a terminal too; `left` columns left-aligned."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(header))]
    ruler = [f":{'-' * (w - 1)}" if i < left else f"{'-' * (w - 1)}:" for i, w in enumerate(widths)]
    padded = [
        [
            cell.ljust(w) if i < left else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    padded.insert(1, ruler)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def marked(values: Sequence[float], texts: Sequence[str]) -> list[str]:
    """Best text bold, second best underlined; what prints alike to four places is marked alike."""
    shown = [round(value, 4) for value in values if not np.isnan(value)]
    places = sorted(set(shown), reverse=True)
    if len(shown) < 2:
        return list(texts)
    marks = {place: mark for place, mark in zip(places, (("**", "**"), ("<u>", "</u>")), strict=False)}
    return [
        text if np.isnan(value) else text.join(marks.get(round(value, 4), ("", "")))
        for value, text in zip(values, texts, strict=True)
    ]


def run_command(board: Leaderboard, model: str) -> str:
    """Command that fills a missing row."""
    protocol = f" --protocol={shlex.quote(board.protocol)}" if board.protocol else ""
    named = f"--model={shlex.quote(model)} --dataset={shlex.quote(board.dataset)}"
    return re.sub(
        r"\s+", " ", f"python benchmarks/run.py {named} --preset={shlex.quote(board.preset)}{protocol}"
    )


def leaderboard_section(
    board: Leaderboard, expect: Sequence[str] = (), page_folder: Path | None = None
) -> str:
    """One table with what its reader must know above and below.

    Args:
        board: the table.
        expect: models that were asked for; those without a row are listed as `not run`.
        page_folder: folder the page will lie in; keys link to runs that lie below it.
    """
    missing = board.missing(expect)
    parts = [f"## {escape(board_title(board))}", "\n".join(f"* {fact}" for fact in board_facts(board, code))]
    if len(board.rows) or missing:
        parts.append(
            table(_header(board), [*_rows(board, page_folder), *(_not_run(board, name) for name in missing)])
        )
    if found := notes(board):
        parts.append("\n".join(f"* {_note(text, models)}" for text, models in found))
    if missing:
        commands = "\n".join(run_command(board, name) for name in missing)
        parts.append(f"Not run:\n\n```\n{commands}\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(board: Leaderboard) -> list[str]:
    """Column titles."""
    titles = [metric_title(metric, single_target=bool(board.single_target)) for metric in board.metrics]
    spread = f"± users {metric_title(ORDER_BY)}"
    return ["model", *titles, spread, *(column.title for column in columns(board)), "run"]


def _rows(board: Leaderboard, page_folder: Path | None) -> list[list[str]]:
    """Cells of all rows."""
    rows = board.rows.to_dict("records")
    cells = [[_name(row) for row in rows], *(_metric_column(rows, metric) for metric in board.metrics)]
    spread = [user_half(row, board.mask, ORDER_BY) for row in rows]
    cells.append([number(half, "± {:.4f}".format) for half in spread])
    cells += [[escape(column.text(row)) for row in rows] for column in columns(board)]
    cells.append([_keys(row, page_folder) for row in rows])
    return [list(line) for line in zip(*cells, strict=True)]


def _metric_column(rows: Sequence[Mapping[Any, Any]], metric: str) -> list[str]:
    """`0.0813 ± 0.0005`, best bold, second underlined."""
    values = [row[metric] for row in rows]
    half = [row[f"{metric} ±"] for row in rows]
    texts = marked(values, [number(value, "{:.4f}".format) for value in values])
    return [text if np.isnan(h) else f"{text} ± {h:.4f}" for text, h in zip(texts, half, strict=True)]


def _name(row: Mapping[Any, Any]) -> str:
    """`HeLLM` or `HeLLM (no_u2u)`."""
    return escape(row["model"]) + (f" ({escape(row['variant'])})" if row["variant"] else "")


def _keys(row: Mapping[Any, Any], page_folder: Path | None) -> str:
    """Short keys, linked where the run lies below the page."""
    return ", ".join(
        key_link(key, folder, page_folder) for key, folder in zip(row["keys"], row["folders"], strict=True)
    )


def key_link(key: str, folder: str, page_folder: Path | None) -> str:
    """A key, as a link to the run's record where a reader of the page has it."""
    text = code(key[:KEY_LENGTH])
    if page_folder is None:
        return text
    path = os.path.relpath(Path(folder) / "run.json", page_folder)
    return text if path.startswith("..") else f"[{text}]({quote(Path(path).as_posix())})"


def _not_run(board: Leaderboard, model: str) -> list[str]:
    """Row of a model that was asked for and never run."""
    return [escape(model), "not run", *[ABSENT] * (len(_header(board)) - 2)]


def _note(text: str, models: Sequence[str]) -> str:
    """A note and whom it concerns."""
    return f"{escape(text)}: {', '.join(escape(model) for model in models)}"
