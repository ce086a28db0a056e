"""From located files to one dataset in memory: ids exchanged, rows in order, counts compared."""

from collections import Counter
from dataclasses import dataclass, field, replace

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data import convert
from recbole_llmgraph.data.catalogue import DatasetCard, Kind
from recbole_llmgraph.data.check import check_counts, check_ratings, long_enough
from recbole_llmgraph.data.convert.common import IdMaps, Item
from recbole_llmgraph.data.features import Feature
from recbole_llmgraph.data.interactions import Interactions, core, in_order, number
from recbole_llmgraph.data.locate import Located
from recbole_llmgraph.data.rows import BadRows
from recbole_llmgraph.data.sources import SourceFile


@dataclass
class Assembled:
    """Everything that is written, and what the manifest says of it."""

    interactions: Interactions
    items: dict[str, Item] = field(default_factory=dict)
    #: Unix seconds, row for row; None where no source knows any.
    times: list[float | None] | None = None
    features: dict[str, Feature] = field(default_factory=dict)
    #: (user, item) pairs of a released test part; empty where there is none.
    test: list[tuple[str, str]] = field(default_factory=list)
    used: list[tuple[Kind, SourceFile]] = field(default_factory=list)
    text_fields: dict[str, int] = field(default_factory=dict)
    provenance_unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def use(self, kind: Kind, found: SourceFile) -> None:
        """Remember that a file was read, with what its card entry warns of."""
        self.used.append((kind, found))
        if found.source.caveat and found.source.caveat not in self.notes:
            self.notes.append(found.source.caveat)


def read_rows(card: DatasetCard, located: Located, bad: BadRows) -> tuple[Assembled, IdMaps | None]:
    """Interactions under the dataset's ids, in order and counted, and the maps to those ids.

    Raises:
        UserError: for the first fault that is not a skipped bad row.
    """
    main = located.of("interactions")[0]
    rows = convert.INTERACTIONS[main.source.converter](main, bad)
    rows = check_ratings(card, rows, main, bad)
    data = Assembled(rows)
    data.use("interactions", main)
    first_seen = rows.users
    if main.source.core:
        rows = core(rows, main.source.core)
    maps = _file_maps(located, main, rows, bad, data)
    if rows.raw:
        if maps is None:
            data.notes.append("ids: numbered in S3-Rec's order (users by first line, items by first visit)")
            maps = IdMaps(*number(rows, first_seen), origin=str(main))
        rows = exchange(rows, maps, main, bad)
    data.interactions = long_enough(card, in_order(rows), main, bad)
    check_counts(card, data.interactions.counts(), main, bad, data.notes)
    _add_times(located, main, maps, bad, data)
    for found in located.of("test")[:1]:
        data.test, told = convert.TEST[found.source.converter](found, data.interactions, bad)
        data.notes.extend(told)
        data.use("test", found)
    return data, maps


def _file_maps(
    located: Located, main: SourceFile, rows: Interactions, bad: BadRows, data: Assembled
) -> IdMaps | None:
    """The maps of the first file that has what is needed, if anything is: raw rows need users too."""
    others = (found for kind in ("items", "times", "image") for found in located.files.get(kind, []))
    if not rows.raw and not any(found.source.raw_ids for found in others):
        return None
    for found in located.of("ids"):
        if found == main:
            continue
        maps = convert.IDS[found.source.converter](found, bad)
        if maps.users or not rows.raw:
            data.use("ids", found)
            return maps
    return None


def exchange(rows: Interactions, maps: IdMaps, found: SourceFile, bad: BadRows) -> Interactions:
    """The rows under the dataset's ids; a row whose id the maps lack is a bad row."""
    kept = []
    for row, (user, item) in enumerate(zip(rows.users, rows.items, strict=True)):
        missing = (
            f"user {user}" if user not in maps.users else f"item {item}" if item not in maps.items else ""
        )
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


def _add_times(
    located: Located, main: SourceFile, maps: IdMaps | None, bad: BadRows, data: Assembled
) -> None:
    """Real times from the interactions themselves, or from a file that lists the same rows in that order."""
    rows = data.interactions
    if rows.times is not None:
        data.times = list(rows.times)
        return
    for found in located.of("times"):
        timed = convert.TIMES[found.source.converter](found, bad)
        if found.source.core:
            timed = core(timed, found.source.core)
        if timed.raw:
            if maps is None or not maps.users:
                continue
            timed = exchange(timed, maps, found, bad)
        data.times = match_times(rows, in_order(timed), found)
        data.use("times", found)
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
    place: Counter[str] = Counter()
    times: list[float | None] = []
    for user, item in zip(rows.users, rows.items, strict=True):
        known = visits.get(user)
        if known is None:
            times.append(None)
            continue
        if len(known) != length[user] or known[place[user]][0] != item:
            raise UserError(
                f"{found}: visit {place[user] + 1} of user {user} is not item {item} as in the interactions; "
                f"take both files from one source, or move this one away"
            )
        times.append(known[place[user]][1])
        place[user] += 1
    return times
