"""Side tables of a prepared dataset: item texts and item features, by item token."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recbole_llmgraph.base.errors import unknown
from recbole_llmgraph.data.features import read_feature
from recbole_llmgraph.data.prepare import Prepared


def default_fields(prepared: Prepared) -> list[str]:
    """Text fields a model reads unless told otherwise: the card's, or its fallback where they are empty."""
    filled = prepared.manifest["text_fields"]
    return [name for name in prepared.card.text if name in filled] or [
        name for name in prepared.card.text_fallback if name in filled
    ]


def item_texts(prepared: Prepared, fields: Sequence[str] | None = None) -> dict[str, str]:
    """Text of every item: its fields in the given order, one blank between them.

    Args:
        prepared: the dataset.
        fields: which fields; default `default_fields`.

    Returns:
        item token -> text, in the order of `.item`; names of a list are set apart by commas, and an item
        without any of the fields has an empty text.

    Raises:
        UserError: for a field that no item has.
    """
    chosen = default_fields(prepared) if fields is None else list(fields)
    for name in chosen:
        if name not in prepared.manifest["text_fields"]:
            raise unknown(f"text field of {prepared.card.name}", name, prepared.manifest["text_fields"])
    texts: dict[str, str] = {}
    with (prepared.folder / "item_text.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            item = json.loads(line)
            values = (item.get(name, "") for name in chosen)
            parts = (", ".join(value) if isinstance(value, list) else value for value in values)
            texts[item["item_id"]] = " ".join(part for part in parts if part)
    return texts


def item_fields(prepared: Prepared) -> dict[str, dict[str, str | list[str]]]:
    """Text fields of the dataset's card by item token, those that an item has, in the order of `.item`.

    Texts of unknown origin stay out unless the card names them.
    """
    found: dict[str, dict[str, str | list[str]]] = {}
    chosen = set(default_fields(prepared))
    with (prepared.folder / "item_text.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            item = json.loads(line)
            found[item["item_id"]] = {name: item[name] for name in item if name in chosen}
    return found


def unknown_provenance(prepared: Prepared, fields: Sequence[str] | None = None) -> list[str]:
    """Those of the fields a model reads that may have been written with test interactions in sight.

    Rows of a report that use any of them carry `provenance unknown`.
    """
    chosen = default_fields(prepared) if fields is None else fields
    return [name for name in chosen if name in prepared.manifest["provenance_unknown"]]


def item_feature(prepared: Prepared, name: str) -> tuple[list[str], npt.NDArray[np.float32]] | None:
    """Tokens `[N]` and rows `[N, d]` of a feature such as `image`; None when prepared without it.

    Raises:
        UserError: when the card knows no such feature.
    """
    path = feature_file(prepared, name)
    if path is None:
        return None
    feature = read_feature(path)
    return feature.tokens, feature.rows


def feature_file(prepared: Prepared, name: str) -> Path | None:
    """File of a feature such as `image`; None when prepared without it.

    Raises:
        UserError: when the card knows no such feature.
    """
    if name not in prepared.card.features:
        raise unknown(f"feature of {prepared.card.name}", name, prepared.card.features)
    path = prepared.folder / "features" / f"{name}.safetensors"
    return path if path.exists() else None
