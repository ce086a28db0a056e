"""Files of top lists: what a run recommended, or what somebody else's model did.

Three forms are read, plain or compressed (`.gz`), by the file's ending:

* `.csv`, `.tsv`: a header, then a line an item: `user`, `item` and `rank` (1 is best) or `score` (high is);
* `.parquet` with the same columns;
* `.parquet` as runs keep it: a row a user, columns `user` and `items|<mask>`, items in order, blanks between.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from recbole_llmgraph.base.errors import UserError

Lists = dict[str, list[str]]


def read_lists(path: Path, mask: str) -> Lists:
    """Items of every user, best first, in external tokens.

    Args:
        path: a file of one of the forms above.
        mask: which column of a run's own file.

    Raises:
        UserError: for a file of another form, or one that ranks an item twice.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        frame = _frame(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if {"user", f"items|{mask}"} <= set(frame.columns):
        found = zip(frame["user"].astype(str), frame[f"items|{mask}"].fillna("").astype(str), strict=True)
        lists = {user: items.split() for user, items in found}
    else:
        lists = _long(path, frame)
    for user, items in lists.items():
        if len(set(items)) < len(items):
            raise UserError(f"{path}: user {user} has an item twice")
    return lists


def _frame(path: Path) -> pd.DataFrame:
    """The table in a file; ids stay text."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        return pd.read_parquet(path)
    if name.endswith((".csv", ".tsv")):
        text = {"user": str, "item": str}
        return pd.read_csv(
            path, sep="\t" if name.endswith(".tsv") else ",", dtype=text, keep_default_na=False
        )
    raise ValueError("expected .csv, .tsv or .parquet")


def _long(path: Path, frame: pd.DataFrame) -> Lists:
    """One line an item."""
    order = next((name for name in ("rank", "score") if name in frame), None)
    if not {"user", "item"} <= set(frame.columns) or order is None:
        there = ", ".join(str(name) for name in frame.columns)
        raise UserError(f"{path}: expected columns user, item and rank or score; found {there}")
    try:
        values = frame[order].astype(np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{path}: column {order} holds something that is no number") from None
    if not np.isfinite(values).all():
        raise UserError(f"{path}: column {order} holds something that is no number")
    ranked = frame.assign(order=values if order == "rank" else -values)
    ranked = ranked.sort_values("order", kind="stable").astype({"user": str, "item": str})
    return {str(user): own["item"].tolist() for user, own in ranked.groupby("user", sort=False)}


def write_lists(lists: Lists, path: Path) -> None:
    """One line an item: user, item, rank.

    Raises:
        UserError: for a file that is neither .csv nor .tsv.
    """
    name = path.name.removesuffix(".gz")
    if not name.endswith((".csv", ".tsv")):
        raise UserError(f"{path}: lists are written as .csv or .tsv, plain or with .gz added")
    rows = [(user, item, rank) for user, items in lists.items() for rank, item in enumerate(items, start=1)]
    frame = pd.DataFrame(rows, columns=["user", "item", "rank"])
    frame.to_csv(path, sep="\t" if name.endswith(".tsv") else ",", index=False)
