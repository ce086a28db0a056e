"""The item side of a dataset: text fields and attributes gathered from several files, and image features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from recbole_llmgraph.data import convert
from recbole_llmgraph.data.catalogue import DatasetCard
from recbole_llmgraph.data.convert.common import IdMaps, Item, ItemSide
from recbole_llmgraph.data.locate import Located
from recbole_llmgraph.data.rows import BadRows

if TYPE_CHECKING:
    from recbole_llmgraph.data.assemble import Assembled


def merge_items(
    card: DatasetCard, located: Located, maps: IdMaps | None, bad: BadRows, data: Assembled
) -> None:
    """Fill `data.items`: each field comes whole from the first file that has it, attributes from their own file."""
    data.items = {item: {} for item in data.interactions.items}
    owned: set[str] = set()
    for found in located.of("items"):
        side = convert.ITEMS[found.source.converter](found, bad)
        rows = _translated(side, maps, data, bad)
        fields = {name for item in rows.values() for name, value in item.items() if value} - owned
        for token, item in rows.items():
            data.items[token].update({name: item[name] for name in fields if item.get(name)})
        owned |= fields
        if fields:
            data.used.append(("items", found))
            data.notes += side.notes
        data.provenance_unknown += sorted(fields & set(found.source.provenance_unknown))
    _add_attributes(located, bad, data)
    _describe(card, data)


def _translated(side: ItemSide, maps: IdMaps | None, data: Assembled, bad: BadRows) -> dict[str, Item]:
    """The file's rows under the dataset's ids; rows of items that nobody touched are left out and counted."""
    names: Mapping[str, str] | None = maps.items if side.raw and maps is not None else None
    rows: dict[str, Item] = {}
    left_out = 0
    for key, item in side.rows.items():
        token = key if names is None else names.get(key)
        if token in data.items:
            rows[token] = item
        elif side.whole:
            left_out += 1
        else:
            bad.add(side.origin, side.lines.get(key, 1), f"item {key} has no interaction")
    if left_out:
        data.notes.append(f"items: {left_out:,} listed items have no interaction and are left out")
    return rows


def _add_attributes(located: Located, bad: BadRows, data: Assembled) -> None:
    for found in located.of("attributes"):
        if found.source.converter not in convert.ATTRIBUTES:
            continue
        attributes = convert.ATTRIBUTES[found.source.converter](found, bad)
        for place, (token, ids) in enumerate(attributes.items(), start=1):
            if token in data.items:
                data.items[token]["attributes"] = list(ids)
            else:
                bad.add(found, 1, f"entry {place}: item {token} has no interaction")
        data.used.append(("attributes", found))
        return


def _describe(card: DatasetCard, data: Assembled) -> None:
    """Count the filled text fields, and say what is missing."""
    for item in data.items.values():
        for name, value in item.items():
            if value and name != "attributes":
                data.text_fields[name] = data.text_fields.get(name, 0) + 1
    if card.text and not set(card.text) & set(data.text_fields):
        fallback = [name for name in card.text_fallback if name in data.text_fields]
        read = f"models read {', '.join(fallback)} instead" if fallback else "models have no text"
        data.notes.append(f"text: none of {', '.join(card.text)} in the sources; {read}")
    if data.provenance_unknown:
        data.notes.append(
            f"provenance unknown: {', '.join(data.provenance_unknown)} may have been written with test interactions in sight"
        )
    for name in card.features:
        if name not in data.features:
            data.notes.append(f"features: no {name} features in the sources; models that fuse them use text alone")
