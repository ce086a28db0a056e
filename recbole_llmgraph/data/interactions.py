"""Interactions as plain columns: order, ranks, k-core, counts. Independent of where they came from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.catalogue import Counts


@dataclass(frozen=True, slots=True)
class Interactions:
    """Columns of equal length, in file order.

    `times` are Unix seconds (None: the file order is the time order); `raw` says that users and items
    carry the source's own ids (reviewer and ASIN), to be exchanged for the dataset's.
    `lines` are the rows' places in their file, for messages.
    """

    users: list[str]
    items: list[str]
    ratings: list[str] | None = None
    times: list[float] | None = None
    lines: list[int] = field(default_factory=list)
    raw: bool = False

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: Sequence[int]) -> "Interactions":
        """The rows at these places, in this order."""
        return replace(
            self,
            users=[self.users[row] for row in rows],
            items=[self.items[row] for row in rows],
            ratings=None if self.ratings is None else [self.ratings[row] for row in rows],
            times=None if self.times is None else [self.times[row] for row in rows],
            lines=[self.lines[row] for row in rows] if self.lines else [],
        )

    def counts(self) -> Counts:
        """What is there."""
        if not len(self):
            raise UserError("no interaction is left; look at the bad rows that were skipped")
        repeats = len(self) - len(set(zip(self.users, self.items, strict=True)))
        return Counts(
            users=len(set(self.users)), items=len(set(self.items)), interactions=len(self), repeats=repeats
        )


def natural(token: str) -> tuple[int, int, str]:
    """Sort key: whole numbers by value, then other ids by their letters."""
    if token.isascii() and token.isdecimal():
        return 0, int(token), token
    return 1, 0, token


def in_order(data: Interactions) -> Interactions:
    """By user (natural order), then time; file order breaks ties."""
    keys = {user: place for place, user in enumerate(sorted(set(data.users), key=natural))}
    users, times = data.users, data.times
    if times is None:
        rows = sorted(range(len(data)), key=lambda row: keys[users[row]])
    else:
        rows = sorted(range(len(data)), key=lambda row: (keys[users[row]], times[row]))
    return data.take(rows)


def ranks(users: Sequence[str]) -> list[int]:
    """Place of every row in its user's history, from 0.

    The atomic file's `timestamp`: RecBole keeps it as float32, too coarse for Unix seconds.
    """
    seen: Counter[str] = Counter()
    places = []
    for user in users:
        places.append(seen[user])
        seen[user] += 1
    return places


def core(data: Interactions, least: int) -> Interactions:
    """Drop users and items with fewer than `least` interactions until none is left (the k-core)."""
    while True:
        of_user, of_item = Counter(data.users), Counter(data.items)
        rows = [
            row
            for row, (user, item) in enumerate(zip(data.users, data.items, strict=True))
            if of_user[user] >= least and of_item[item] >= least
        ]
        if len(rows) == len(data):
            return data
        data = data.take(rows)


def number(
    data: Interactions, first_seen: Sequence[str] | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """Ids from 1 in S3-Rec's order: users by first line of the file, items by first visit along the users.

    Within a user, visits are ordered by time, file order breaking ties.

    Args:
        data: the interactions to number.
        first_seen: users in the order of the file before anything was dropped; default the order of `data`.
    """
    kept = set(data.users)
    order = dict.fromkeys(user for user in (data.users if first_seen is None else first_seen) if user in kept)
    user_ids = {user: str(place) for place, user in enumerate(order, start=1)}
    renamed = in_order(replace(data, users=[user_ids[user] for user in data.users]))
    item_ids = {item: str(place) for place, item in enumerate(dict.fromkeys(renamed.items), start=1)}
    return user_ids, item_ids
