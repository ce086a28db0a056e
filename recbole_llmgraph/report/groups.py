"""For whom a model works, and with what: groups of users, groups of items, and measures beside accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_llmgraph.report.leaderboard import ORDER_BY, Leaderboard, seed_interval
from recbole_llmgraph.report.spread import user_values
from recbole_llmgraph.store.facts import ItemFacts, SplitFacts, read_item_facts, read_split_facts

Counts = npt.NDArray[np.int64]
Row = Mapping[Any, Any]
#: Share of items that are head, and share that head and mid are together.
HEAD, MID = 0.2, 0.5
#: Length of the lists that are looked at beside accuracy.
LIST = 10


@dataclass(frozen=True)
class Group:
    """Some users or items.

    Attributes:
        name: `4 to 6` interactions, `tail`.
        members: which rows. [users] or [items], bool
    """

    name: str
    members: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GroupTable:
    """A metric by groups, for every row of a leaderboard.

    Attributes:
        title, about: what is grouped, and how.
        metric: which metric.
        groups: names, with the number of users or test interactions in each.
        rows: a row of the leaderboard each.
        values: mean over a group, and half of its 95 % interval over users (NaN where there is none).
            [rows, groups]
    """

    title: str
    about: str
    metric: str
    groups: list[tuple[str, int]]
    rows: Sequence[Row]
    values: list[list[tuple[float, float]]]


def split_facts(board: Leaderboard) -> SplitFacts | None:
    """Facts of a table's split, from the stores that its runs lie in; None where nobody kept them."""
    roots = dict.fromkeys(Path(folder).parents[2] for row in board.rows["folders"] for folder in row)
    facts = read_split_facts(roots, board.split_fingerprint)
    if facts is None or board.test_users not in (None, len(facts.users)):
        return None
    return facts


def activity_groups(trained: Counts) -> list[Group]:
    """Users by quartile of their training interactions; equal counts stay together, the first are cold."""
    if not len(trained):
        return []
    edges = np.unique(np.quantile(trained, [0.25, 0.5, 0.75], method="lower"))
    lows = [int(trained.min()), *(int(edge) + 1 for edge in edges)]
    lows = [low for low in dict.fromkeys(lows) if low <= int(trained.max())]
    groups = []
    for place, low in enumerate(lows):
        high = lows[place + 1] - 1 if place + 1 < len(lows) else None
        members = (trained >= low) & (trained <= (high if high is not None else np.inf))
        name = f"{low} or more" if high is None else str(low) if low == high else f"{low} to {high}"
        groups.append(Group(f"cold: {name}" if place == 0 else name, members))
    return [group for group in groups if group.members.any()]


def popularity_groups(trained: Counts) -> list[Group]:
    """Items by their training interactions: the fifth met most, up to the median, between, and never met.

    Equal counts stay together, so that shares are met as nearly as they allow.
    """
    met = trained[trained > 0]
    high, low = np.quantile(met, [1 - HEAD, 1 - MID], method="lower") if len(met) else (0, 0)
    named = {
        "head": trained > high,
        "mid": (trained > low) & (trained <= high),
        "tail": (trained > 0) & (trained <= low),
        "new": trained == 0,
    }
    return [Group(name, members) for name, members in named.items() if members.any()]


def group_tables(board: Leaderboard) -> list[GroupTable]:
    """Every table of groups that the store can fill; none without the facts of the split."""
    facts = split_facts(board)
    if facts is None or not len(board.rows):
        return []
    users = facts.users["trained"].to_numpy(np.int64)
    tables = [
        _by_user(
            board,
            activity_groups(users),
            "Users by activity",
            "training interactions of a user, by quartile",
        )
    ]
    items = popularity_groups(facts.items["trained"].to_numpy(np.int64))
    if "target" in facts.users:
        target = facts.users["target"].to_numpy(np.int64)
        asked = [Group(group.name, group.members[target]) for group in items]
        asked = [group for group in asked if group.members.any()]
        about = f"training interactions of the test item: {_shares()}"
        tables.append(_by_user(board, asked, "Test items by popularity", about))
    else:
        tables += _by_item(board, items, facts)
    return tables


def _shares() -> str:
    """How items are grouped, in words."""
    return (
        f"head, the {HEAD:.0%} of items met most; tail, those up to the median; mid, those between; "
        "new, those never met"
    )


def _by_user(board: Leaderboard, groups: Sequence[Group], title: str, about: str) -> GroupTable:
    """A user metric by groups of users."""
    rows = [dict(row) for row in board.rows.to_dict("records")]
    values = []
    for row in rows:
        own = user_values(row, board.mask, ORDER_BY)
        values.append([_mean(own, group.members) for group in groups])
    sizes = [(group.name, int(group.members.sum())) for group in groups]
    return GroupTable(title, about, ORDER_BY, sizes, rows, values)


def _mean(values: np.ndarray | None, members: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Mean over a group, and half of its interval over users."""
    if values is None or len(values) != len(members):
        return float("nan"), float("nan")
    return float(values[members].mean()), seed_interval(values[members])


def _by_item(board: Leaderboard, groups: Sequence[Group], facts: SplitFacts) -> list[GroupTable]:
    """Share of the test interactions with a group's items that lists of ten hold."""
    tested = facts.items["tested"].to_numpy(np.int64)
    groups = [group for group in groups if tested[group.members].any()]
    rows, values = [], []
    for row in board.rows.to_dict("records"):
        hits = _hits(row, board.mask, len(tested))
        if hits is not None:
            rows.append(dict(row))
            values.append(
                [(float(hits[g.members].sum() / tested[g.members].sum()), float("nan")) for g in groups]
            )
    if not rows:
        return []
    sizes = [(group.name, int(tested[group.members].sum())) for group in groups]
    about = f"share of the test interactions found, by training interactions of the item: {_shares()}"
    return [GroupTable("Test items by popularity", about, f"recall@{LIST}", sizes, rows, values)]


def _hits(row: Row, mask: str, items: int) -> np.ndarray | None:
    """Hits of each item, a mean over seeds; None where a run did not count them. [items]"""
    column = f"hits@{LIST}|{mask}"
    facts = [item_facts(folder) for folder in row["folders"]]
    known = [one.counts[column].to_numpy(np.float64) for one in facts if one and column in one.counts]
    if len(known) < len(facts) or any(len(one) != items for one in known):
        return None
    return np.asarray(np.mean(known, axis=0))


@cache
def item_facts(folder: str) -> ItemFacts | None:
    """What a run recommended, read once."""
    return read_item_facts(Path(folder))


@dataclass(frozen=True)
class Beyond:
    """What lists of ten look like, whether or not they hit.

    Attributes:
        coverage: share of all items that stand in at least one list.
        gini: how unequally items are shown: 0, all alike; 1, one item alone.
        novelty: mean over shown items of −log2 of their share of the training interactions, one added to
            every item: bits, high for rare items.
        tail: share of shown items that are tail or new.
        diversity: by text encoder, mean cosine distance between two items of a list.
    """

    coverage: float
    gini: float
    novelty: float
    tail: float
    diversity: dict[str, float]


def beyond(row: Row, board: Leaderboard, facts: SplitFacts) -> Beyond | None:
    """Measures beside accuracy of one row, means over its seeds; None where a run did not count its items."""
    column, trained = f"shown@{LIST}|{board.mask}", facts.items["trained"].to_numpy(np.float64)
    told = [item_facts(folder) for folder in row["folders"]]
    known = [one for one in told if one and column in one.counts and len(one.counts) == len(trained)]
    if len(known) < len(told):
        return None
    seeds = [one.counts[column].to_numpy(np.float64) for one in known]
    if any(not shown.sum() for shown in seeds):
        return None
    rare = -np.log2((trained + 1) / (trained + 1).sum())
    tail = np.zeros(len(trained), dtype=bool)
    for group in popularity_groups(trained.astype(np.int64)):
        tail |= group.members & (group.name in ("tail", "new"))
    encoders = set.intersection(*(set(one.diversity) for one in known))
    return Beyond(
        coverage=float(np.mean([(shown > 0).mean() for shown in seeds])),
        gini=float(np.mean([gini(shown) for shown in seeds])),
        novelty=float(np.mean([shown @ rare / shown.sum() for shown in seeds])),
        tail=float(np.mean([shown[tail].sum() / shown.sum() for shown in seeds])),
        diversity={
            encoder: float(np.mean([one.diversity[encoder].get(board.mask, np.nan) for one in known]))
            for encoder in sorted(encoders)
        },
    )


def gini(shown: np.ndarray) -> float:
    """Gini coefficient: mean absolute difference of how often two items are shown, over twice the mean."""
    ordered = np.sort(np.asarray(shown, dtype=np.float64))
    n = len(ordered)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))
