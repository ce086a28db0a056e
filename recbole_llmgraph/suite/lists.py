"""Files of top lists: what a run recommended, or what somebody else's model did.

Three forms are read, plain or compressed (`.gz`), by the file's ending:

* `.csv`, `.tsv`: a header, then a line an item: `user`, `item` and `rank` (1 is best) or `score` (high is);
* `.parquet` with the same columns;
* `.parquet` as runs keep it: a row a user, columns `user` and `items|<mask>`, items in order, blanks between.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.dataset import Split
from recbole_llmgraph.host.evaluation import Mask
from recbole_llmgraph.host.lists import tested_users

Lists = dict[str, list[str]]


def read_lists(path: Path, mask: Mask) -> Lists:
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


def list_ids(split: Split, lists: Lists, mask: Mask, where: str) -> npt.NDArray[np.int32]:
    """Internal ids of lists, in the order of the tested users; 0 where a list ends.

    Users whose lists are missing have none; lists of users that are not tested are passed over.

    Args:
        split: the ids and what was met in training.
        lists: external tokens.
        mask: under `train`, no list may hold an item of its user's training.
        where: file, for errors.

    Raises:
        UserError: for an unknown id, no known user at all, or an item that the mask forbids.
    """
    ids = {token: place for place, token in enumerate(split.item_tokens()) if place}
    tokens = split.user_tokens()
    rows = tested_users(split)
    if unknown_users := [user for user in lists if user not in set(tokens[1:])]:
        raise UserError(
            f"{where}: user {unknown_users[0]} is not in this dataset ({len(unknown_users)} such)"
        )
    width = max((len(items) for items in lists.values()), default=0)
    found = np.zeros((len(rows), max(1, width)), dtype=np.int32)
    for row, user in enumerate(rows):
        for place, item in enumerate(lists.get(tokens[user], ())):
            if item not in ids:
                raise UserError(f"{where}: item {item} of user {tokens[user]} is not in this dataset")
            found[row, place] = ids[item]
    if mask == "train":
        _refuse_seen(split, rows, found, where)
    if not found.any():
        raise UserError(f"{where}: no list of a tested user; is this the right dataset and protocol?")
    return found


def _refuse_seen(
    split: Split, users: npt.NDArray[np.int64], items: npt.NDArray[np.int32], where: str
) -> None:
    """Lists made under mask `train` hold no training item of their user."""
    seen = split.training_matrix[np.repeat(users, items.shape[1]), items.ravel()]
    places = np.flatnonzero(np.asarray(seen).ravel() * (items.ravel() > 0))
    if len(places):
        user, item = users[places[0] // items.shape[1]], items.ravel()[places[0]]
        who, what = split.user_tokens()[user], split.item_tokens()[item]
        raise UserError(
            f"{where}: user {who} is recommended {what}, an item of their own training; "
            "lists that rank every item are scored by --mask none"
        )
