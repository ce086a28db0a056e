"""Top lists in external tokens as ids of a split, checked against it."""

import numpy as np
import numpy.typing as npt

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.dataset import Split
from recbole_llmgraph.host.evaluation import Mask
from recbole_llmgraph.host.lists import tested_users
from recbole_llmgraph.store.lists import Lists


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
    known = set(tokens[1:])
    if unknown_users := [user for user in lists if user not in known]:
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
