"""Sentence vectors of item texts, made once per text collection and encoder."""

from collections.abc import Mapping
from pathlib import Path

from recbole_llmgraph.artifact.store import ArtifactStore, read_recipe
from recbole_llmgraph.artifact.tables import TokenTable, load_table, save_table
from recbole_llmgraph.base.hashing import hash_data
from recbole_llmgraph.lm.text import CONTROL, TextEncoder, open_text_encoder

KIND = "text_features"
FILE = "features.safetensors"


def text_features(texts: Mapping[str, str], encoder: str, store: ArtifactStore) -> TokenTable:
    """Table of `text_features_file`."""
    return load_table(text_features_file(texts, encoder, store))


def text_features_file(texts: Mapping[str, str], encoder: str, store: ArtifactStore) -> Path:
    """Encode each item's text, or find the file when these texts met this encoder before.

    Args:
        texts: external item token → text; order does not matter.
        encoder: a specification of `open_text_encoder`.
        store: where the rows are kept.

    Returns:
        A table's file: tokens in sorted order, rows [N, d] in float32 (zero for an empty text)
        and, in `meta`, `encoder` (name as reports print it), `revision` and the number of
        `empty` texts.
    """
    opened = open_text_encoder(encoder)
    tokens = sorted(texts)
    empty = sum(not texts[token].strip() for token in tokens)

    def make(folder: Path) -> None:
        rows = opened.encode([texts[token] for token in tokens])
        meta = {"encoder": opened.name, "revision": opened.revision, "empty": empty}
        save_table(folder / FILE, tokens, rows, meta)

    return store.get(KIND, _recipe(texts, opened), make) / FILE


def made_features(texts: Mapping[str, str], store: ArtifactStore) -> list[TokenTable]:
    """Tables that true encoders made of these very texts before, by encoder; none is made now."""
    wanted, found = _texts_hash(texts), []
    for folder in store.there(KIND):
        recipe = read_recipe(folder)
        if recipe["texts"] == wanted and not recipe["encoder"].startswith(CONTROL):
            found.append(load_table(folder / FILE))
    return sorted(found, key=lambda table: str(table.meta["encoder"]))


def text_features_identity(texts: Mapping[str, str], encoder: str) -> str:
    """What `text_features_file` would be named after, without encoding anything."""
    return hash_data(_recipe(texts, open_text_encoder(encoder)))


def _recipe(texts: Mapping[str, str], encoder: TextEncoder) -> dict[str, str]:
    return {
        "encoder": encoder.name,
        "revision": encoder.revision,
        "texts": _texts_hash(texts),
    }


def _texts_hash(texts: Mapping[str, str]) -> str:
    return hash_data([[token, texts[token]] for token in sorted(texts)])
