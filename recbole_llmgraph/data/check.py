"""Checks of a whole dataset against its card."""

from collections import Counter

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.data.catalogue import Counts, DatasetCard
from recbole_llmgraph.data.interactions import Interactions
from recbole_llmgraph.data.rows import BadRows
from recbole_llmgraph.data.sources import SourceFile

#: Leave-one-out needs a training, a validation and a test interaction of every user.
SHORTEST = 3


def check_ratings(card: DatasetCard, rows: Interactions, found: SourceFile, bad: BadRows) -> Interactions:
    """For rated datasets: ratings are numbers in the card's range, and nobody rates an item twice."""
    if not card.rated or card.rating_range is None:
        return rows
    if rows.ratings is None:
        raise UserError(f"{found}: has no ratings, which protocol {card.protocols[-1]} of {card.name} needs")
    low, high = card.rating_range
    seen: set[tuple[str, str]] = set()
    kept = []
    for row, (user, item, rating) in enumerate(zip(rows.users, rows.items, rows.ratings, strict=True)):
        fault = _rating_fault(rating, low, high)
        if (user, item) in seen:
            fault = f"user {user} rates item {item} a second time"
        if fault:
            bad.add(found, rows.lines[row], fault)
            continue
        seen.add((user, item))
        kept.append(row)
    return rows if len(kept) == len(rows) else rows.take(kept)


def _rating_fault(text: str, low: float, high: float) -> str | None:
    try:
        value = float(text)
    except ValueError:
        return f"the rating {text!r} is no number"
    return None if low <= value <= high else f"the rating {text} is not in {low:g}..{high:g}"


def long_enough(card: DatasetCard, rows: Interactions, found: SourceFile, bad: BadRows) -> Interactions:
    """For leave-one-out: every user has a training, a validation and a test interaction."""
    if "seq" not in card.protocols:
        return rows
    of_user = Counter(rows.users)
    short = {user for user, count in of_user.items() if count < SHORTEST}
    if not short:
        return rows
    line = dict(zip(rows.users, rows.lines, strict=True))
    for user in sorted(short, key=lambda user: (line[user], user)):
        bad.add(
            found, line[user], f"user {user} has {of_user[user]} interactions, leave-one-out needs {SHORTEST}"
        )
    return rows.take([row for row, user in enumerate(rows.users) if user not in short])


def check_counts(
    card: DatasetCard, counts: Counts, found: SourceFile, bad: BadRows, notes: list[str]
) -> None:
    """The counts are the card's; after skipped rows a difference is a note.

    Raises:
        UserError: naming the first count that differs.
    """
    wanted = card.counts
    differs = [
        f"{getattr(counts, name):,} {name} where the card has {getattr(wanted, name):,}"
        for name in ("users", "items", "interactions", "repeats")
        if getattr(counts, name) != getattr(wanted, name)
    ]
    if not differs:
        return
    text = f"{found}: {', '.join(differs)}"
    if bad.count == 0:
        raise UserError(f"{text}; this is another version of {card.name}: {_advice(card, found)}")
    notes.append(f"counts differ from the card after {bad.count} skipped rows: {', '.join(differs)}")
    say(f"{text} (after {bad.count} skipped rows)")


def _advice(card: DatasetCard, found: SourceFile) -> str:
    url = found.source.url
    return (
        f"fetch {url}"
        if url
        else "fetch the version the card names, or write a card of your own (--dataset my.yaml)"
    )
