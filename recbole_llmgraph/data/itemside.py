"""The item side of a dataset: text fields and attributes gathered from several files, and image features."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data import convert
from recbole_llmgraph.data.assemble import Assembled
from recbole_llmgraph.data.catalogue import DatasetCard
from recbole_llmgraph.data.convert.common import IdMaps
from recbole_llmgraph.data.interactions import natural
from recbole_llmgraph.data.locate import Located
from recbole_llmgraph.data.rows import BadRows, one_line
from recbole_llmgraph.data.sources import SourceFile


def add_items(
    card: DatasetCard, located: Located, maps: IdMaps | None, bad: BadRows, data: Assembled
) -> None:
    """Fill `data.items` and `data.features`: every field comes whole from the first file that has it."""
    data.items = {item: {} for item in dict.fromkeys(data.interactions.items)}
    for found in located.of("items"):
        _add_fields(found, maps, bad, data)
    _add_attributes(located, bad, data)
    if "image" in card.features:
        _add_image(located, maps, bad, data)
    _describe(card, data)


def _names(found: SourceFile, maps: IdMaps | None, data: Assembled) -> Mapping[str, str]:
    """From the file's item ids to the dataset's, for the items that somebody touched."""
    if not found.source.raw_ids:
        return {item: item for item in data.items}
    if maps is None:
        raise UserError(
            f"{found}: is keyed by the shop's ids and no file maps them; add datamaps.json or the reviews"
        )
    return {key: item for key, item in maps.items.items() if item in data.items}


def _add_fields(found: SourceFile, maps: IdMaps | None, bad: BadRows, data: Assembled) -> None:
    names = _names(found, maps, data)
    side = convert.ITEMS[found.source.converter](found, bad, names)
    if side.left_out:
        data.notes.append(
            f"{found.source.file}: {side.left_out:,} listed items have no interaction and are left out"
        )
    owned = {name for item in data.items.values() for name in item}
    fields = {name for item in side.rows.values() for name, value in item.items() if value} - owned
    if not fields:
        return
    for key, item in side.rows.items():
        data.items[names[key]].update({name: item[name] for name in sorted(fields) if item.get(name)})
    data.use("items", found)
    data.notes += side.notes
    data.provenance_unknown += sorted(fields & set(found.source.provenance_unknown))


def _add_attributes(located: Located, bad: BadRows, data: Assembled) -> None:
    """Attributes from their own file, or else brand and categories but for names that every item has."""
    for found in located.of("attributes"):
        for place, (token, ids) in enumerate(
            convert.ATTRIBUTES[found.source.converter](found, bad).items(), start=1
        ):
            if token in data.items:
                data.items[token]["attributes"] = list(ids)
            else:
                bad.add(found, 1, f"entry {place}: item {token} has no interaction")
        data.use("attributes", found)
        return
    derived = {token: _labels(item) for token, item in data.items.items()}
    of_label = Counter(label for labels in derived.values() for label in labels)
    for token, labels in derived.items():
        data.items[token]["attributes"] = [label for label in labels if of_label[label] < len(derived)]
    if of_label:
        data.notes.append("attributes: brand and categories of the item side")


def _labels(item: Mapping[str, str | list[str]]) -> list[str]:
    brand, categories = item.get("brand", ""), item.get("categories", [])
    names = [str(brand), *(categories if isinstance(categories, list) else [categories])]
    return list(dict.fromkeys(one_line(name) for name in names if name))


def _add_image(located: Located, maps: IdMaps | None, bad: BadRows, data: Assembled) -> None:
    for found in located.of("image"):
        names = _names(found, maps, data)
        feature = convert.IMAGE[found.source.converter](found, bad, names)
        tokens = [names[key] for key in feature.tokens]
        order = sorted(range(len(tokens)), key=lambda row: natural(tokens[row]))
        if not order:
            raise UserError(
                f"{found}: has no row for any item of this dataset; take the file of this category"
            )
        data.features["image"] = replace(
            feature, tokens=[tokens[row] for row in order], rows=feature.rows[order]
        )
        data.notes.append(f"image: rows for {len(order):,} of {len(data.items):,} items")
        data.use("image", found)
        return


def _describe(card: DatasetCard, data: Assembled) -> None:
    """Count the filled text fields, and say what is missing."""
    filled = Counter(name for item in data.items.values() for name, value in item.items() if value)
    data.text_fields = {name: count for name, count in sorted(filled.items()) if name != "attributes"}
    if card.text and not set(card.text) & set(data.text_fields):
        fallback = [name for name in card.text_fallback if name in data.text_fields]
        read = f"models read {', '.join(fallback)} instead" if fallback else "models have no text"
        data.notes.append(f"text: none of {', '.join(card.text)} in the sources; {read}")
    if data.provenance_unknown:
        names = ", ".join(data.provenance_unknown)
        data.notes.append(
            f"provenance unknown: {names} may have been written with test interactions in sight"
        )
    for name in card.features:
        if name not in data.features:
            data.notes.append(
                f"features: no {name} features in the sources; models that fuse them use text alone"
            )
