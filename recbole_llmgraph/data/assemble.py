"""From located files to one dataset in memory: ids exchanged, rows in order, counts compared with the card."""

from collections import Counter
from dataclasses import dataclass, field, replace

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.data import convert
from recbole_llmgraph.data.catalogue import DatasetCard, Kind
from recbole_llmgraph.data.check import check_counts, check_ratings, long_enough
from recbole_llmgraph.data.convert.common import IdMaps, Item
from recbole_llmgraph.data.features import Feature
from recbole_llmgraph.data.interactions import Interactions, core, in_order, number
from recbole_llmgraph.data.itemside import merge_items
from recbole_llmgraph.data.locate import Located
from recbole_llmgraph.data.rows import BadRows
from recbole_llmgraph.data.sources import SourceFile


@dataclass
class Assembled:
    """Everything that is written, and what the manifest says of it."""

    interactions: Interactions
    items: dict[str, Item]
    #: Unix seconds, row for row; None where no source knows any.
    times: list[float | None] | None = None
    features: dict[str, Feature] = field(default_factory=dict)
    used: list[tuple[Kind, SourceFile]] = field(default_factory=list)
    text_fields: dict[str, int] = field(default_factory=dict)
    provenance_unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def assemble(card: DatasetCard, located: Located, bad: BadRows) -> Assembled:
    """Read, exchange ids, order, check.

    Raises:
        UserError: for the first fault that is not a skipped bad row.
    """
    data = Assembled(Interactions([], []), {})
    main = located.of("interactions")[0]
    data.used.append(("interactions", main))
    rows = convert.INTERACTIONS[main.source.converter](main, bad)
    rows = check_ratings(card, rows, main, bad)
    if card.core and rows.raw:
        rows = core(rows, card.core)
    maps = _id_maps(located, rows, bad, data)
    if rows.raw and maps is not None:
        rows = exchange(rows, maps, main, bad)
    rows = long_enough(card, in_order(rows), main, bad)
    check_counts(card, rows.counts(), main, bad, data.notes)
    data.interactions = rows
    _add_times(located, maps, bad, data)
    merge_items(card, located, maps, bad, data)
    return data


def _id_maps(located: Located, rows: Interactions, bad: BadRows, data: Assembled) -> IdMaps | None:
    """The maps of a file, or for raw rows without one S3-Rec's own numbering."""
    for found in located.of("ids"):
        if found.source.converter in convert.IDS:
            data.used.append(("ids", found))
            return convert.IDS[found.source.converter](found, bad)
    if not rows.raw:
        return None
    data.notes.append("ids: numbered in S3-Rec's order (users by first line, items by first visit)")
    users, items = number(rows)
    return IdMaps(users, items, "the interactions themselves")


def exchange(rows: Interactions, maps: IdMaps, found: SourceFile, bad: BadRows) -> Interactions:
    """The rows under the dataset's ids; a row whose id the maps lack is a bad row."""
    kept = []
    for row, (user, item) in enumerate(zip(rows.users, rows.items, strict=True)):
        missing = f"user {user}" if user not in maps.users else f"item {item}" if item not in maps.items else ""
        if missing:
            bad.add(found, rows.lines[row], f"{maps.origin} has no id for {missing}")
        else:
            kept.append(row)
    rows = rows.take(kept)
    return replace(
        rows,
        users=[maps.users[user] for user in rows.users],
        items=[maps.items[item] for item in rows.items],
        raw=False,
    )


def _add_times(located: Located, maps: IdMaps | None, bad: BadRows, data: Assembled) -> None:
    """Real times from the interactions themselves, or from a table that lists the same rows in the same order."""
    rows = data.interactions
    if rows.times is not None:
        data.times = list(rows.times)
        return
    for found in located.of("times"):
        timed = convert.TIMES[found.source.converter](found, bad)
        timed = exchange(timed, maps, found, bad) if timed.raw and maps is not None else timed
        data.times = match_times(rows, in_order(timed), found)
        data.used.append(("times", found))
        unknown = sum(time is None for time in data.times)
        if unknown:
            data.notes.append(f"unix_time: unknown for {unknown:,} rows")
        return


def match_times(rows: Interactions, timed: Interactions, found: SourceFile) -> list[float | None]:
    """Times row for row; users that the table leaves out have none.

    Raises:
        UserError: when the table tells another order than the interactions.
    """
    visits: dict[str, list[tuple[str, float]]] = {}
    for user, item, time in zip(timed.users, timed.items, timed.times or [], strict=True):
        visits.setdefault(user, []).append((item, time))
    length = Counter(rows.users)
    times: list[float | None] = []
    place: Counter[str] = Counter()
    for user, item in zip(rows.users, rows.items, strict=True):
        known = visits.get(user)
        if known is None:
            times.append(None)
            continue
        if len(known) != length[user] or known[place[user]][0] != item:
            raise UserError(
                f"{found}: visit {place[user] + 1} of user {user} is not item {item} as in the interactions; "
                f"take both files from one source, or remove this one"
            )
        times.append(known[place[user]][1])
        place[user] += 1
    if not visits:
        say(f"{found}: holds no times")
    return times
