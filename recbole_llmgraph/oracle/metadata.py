"""Descriptions from metadata alone: an item's own details, and a user's details with the highest lift."""

from collections import Counter
from collections.abc import Mapping, Sequence

from recbole_llmgraph.oracle.questions import Item

#: Details that a user's description names.
NAMED = 3


def describe_item(item: Item) -> str:
    """`title: details`."""
    return f"{item.title}: {', '.join(item.details)}" if item.details else item.title


def highest_lift(items: Sequence[Item], shares: Mapping[str, float]) -> list[str]:
    """The details (genres, brands, …) that are most over-represented among `items`.

    lift = share among the items ÷ share in the catalogue. Details on fewer than a tenth of the items are left
    out, since a rare one has a high lift by accident.

    Args:
        items: what a user liked.
        shares: share of the catalogue's items with each detail; without it, frequency decides.
    """
    counts = Counter(detail for item in items for detail in set(item.details))
    enough = max(1.0, len(items) / 10)
    common = [detail for detail, count in counts.items() if count >= enough]
    lift = {detail: counts[detail] / len(items) / shares.get(detail, 1.0) for detail in common}
    return sorted(common, key=lambda d: (-round(lift[d], 9), -counts[d], d))[:NAMED]


def detail_shares(items: Sequence[Item]) -> dict[str, float]:
    """Share of items with each detail."""
    counts = Counter(detail for item in items for detail in set(item.details))
    return {detail: count / len(items) for detail, count in counts.items()}


def describe_user(liked: Sequence[Item], disliked: Sequence[Item], shares: Mapping[str, float]) -> str:
    """`Likes …; avoids ….`, by highest lift."""
    likes, avoids = highest_lift(liked, shares), highest_lift(disliked, shares)
    parts = [f"Likes {', '.join(likes)}"] if likes else [f"Liked {len(liked)} items"]
    if avoids := [detail for detail in avoids if detail not in likes]:
        parts.append(f"avoids {', '.join(avoids)}")
    return "; ".join(parts) + "."
