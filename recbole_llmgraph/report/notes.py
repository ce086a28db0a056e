"""Notes below a table: what a reader must know of single rows before comparing them."""

import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from recbole_llmgraph.report.leaderboard import KEY_LENGTH, Leaderboard


def notes(board: Leaderboard) -> list[tuple[str, list[str]]]:
    """Notes with the rows they concern, each said once; with twins last."""
    said: dict[str, list[str]] = {}
    rows = sorted(board.rows.to_dict("records"), key=lambda row: (row["model"], row["variant"], row["keys"]))
    for row in rows:
        for text in _of_row(row, board.mask):
            names = said.setdefault(text, [])
            if (name := row_name(row)) not in names:
                names.append(name)
    everyone = list(dict.fromkeys((row["model"], row_name(row)) for row in rows))
    return [*((text, _together(names, everyone)) for text, names in said.items()), *_twins(rows)]


def _together(names: list[str], everyone: list[tuple[str, str]]) -> list[str]:
    """The same rows in fewer words: `all rows`, `every GALRec`."""
    if len(names) == len(everyone) > 1:
        return ["all rows"]
    told: list[str] = []
    for model, of_model in groupby(everyone, key=lambda row: row[0]):
        own = [name for _, name in of_model]
        meant = [name for name in own if name in names]
        told += [f"every {model}"] if len(own) > 1 and meant == own else meant
    return told


def row_name(row: Mapping[Any, Any]) -> str:
    """`HeLLM` or `HeLLM (no_u2u)`."""
    return f"{row['model']} ({row['variant']})" if row["variant"] else str(row["model"])


def _of_row(row: Mapping[Any, Any], mask: str) -> list[str]:
    """Notes of one row."""
    found = []
    backbone = str(row["backbone"] or "")
    if backbone.startswith("builtin:"):
        found.append(
            f"backbone {backbone} is small and trained from scratch; never compare with published numbers "
            "of pre-trained models of billions of parameters"
        )
    if row["text_encoder"]:
        found.append(f"text encoder {row['text_encoder']}")
    found += row["notes"]
    if row["selection_mask"] != mask:
        found.append(f"epoch chosen on validation under mask {row['selection_mask']}, not {mask}")
    if earlier := _named(stage for stage in row["stages"] if stage[0] != row["model"]):
        found.append(f"stands on {earlier}; their time is not in this row")
    if trained := _named(stage for stage in row["stages"] if stage[0] == row["model"]):
        found.append(f"one training with {trained}, whose time is in this row")
    if row["machine"]:
        found.append(f"seconds measured on {row['machine']}")
    return found


def _twins(rows: list[dict[Any, Any]]) -> list[tuple[str, list[str]]]:
    """For rows of one name: the settings by which they differ."""
    found: list[tuple[str, list[str]]] = []
    for name, group in groupby(rows, key=row_name):
        twins = list(group)
        settings = [json.loads(row["settings"]) for row in twins]
        keys = sorted({key for values in settings for key in values})
        differ = [key for key in keys if len({json.dumps(values.get(key)) for values in settings}) > 1]
        if len(twins) > 1:
            told = [
                f"{row['keys'][0][:KEY_LENGTH]} has "
                + (", ".join(f"{key}={json.dumps(values.get(key))}" for key in differ) or _stages(row))
                for row, values in zip(twins, settings, strict=True)
            ]
            found.append((f"rows of {name} differ", told))
    return found


def _stages(row: Mapping[Any, Any]) -> str:
    """What a row of equal settings stands on."""
    named = _named(row["stages"])
    return f"equal settings and stands on {named}" if named else "equal settings"


def _named(stages: Iterable[tuple[str, str]]) -> str:
    """`SASRec 0123abcd, LightGCN 4567cdef`."""
    return ", ".join(f"{model} {key[:KEY_LENGTH]}" for model, key in stages)
