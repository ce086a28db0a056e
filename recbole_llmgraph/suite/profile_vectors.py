"""Sentence vectors of items' and users' profiles (RLMRec): LAGCL4Rec's texts, read by a text encoder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from recbole_llmgraph.artifact.tables import save_table
from recbole_llmgraph.base.files import write_json
from recbole_llmgraph.data.prepare import Prepared
from recbole_llmgraph.lm.text import open_text_encoder
from recbole_llmgraph.model.needs import ProfileVectors
from recbole_llmgraph.model.profiled import ITEMS, USERS
from recbole_llmgraph.model.rerank import Texts
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.rerank import COSTS, texts_costs, texts_file, texts_notes, texts_recipe

if TYPE_CHECKING:
    from recbole_llmgraph.suite.cell import Cell

KIND = "profile_vectors"
#: How a row calls profiles that no language model wrote.
WRITTEN = {"metadata": "profiles from metadata alone (no language model)"}


@dataclass(frozen=True)
class Found:
    """A folder of vectors, the name of their encoder, and what a reader of the row must know."""

    path: Path
    encoder: str
    notes: list[str]


def profile_vectors_recipe(need: ProfileVectors, ready: Prepared, cell: "Cell") -> dict[str, Any]:
    """Everything that decides the vectors; nothing is asked or encoded."""
    encoder = open_text_encoder(need.encoder)
    return {**texts_recipe(need, ready, cell), "encoder": encoder.name, "revision": encoder.revision}


def profile_vectors_file(
    need: ProfileVectors, ready: Prepared, cell: "Cell", house: House, rows: Callable[[], pd.DataFrame]
) -> Found:
    """The vectors of a need, made now when they are not there yet.

    Args:
        need: which.
        ready: the dataset.
        cell: who needs them, for its split and seed.
        house: where artifacts lie.
        rows: gives the training ratings by token.
    """
    encoder = open_text_encoder(need.encoder)

    def make(folder: Path) -> None:
        path = texts_file(need, ready, cell, house, rows)
        texts = Texts.load(path)
        sides = {
            ITEMS: {name: item.text for name, item in texts.items.items()},
            USERS: texts.profiles,
        }
        for file, said in sides.items():
            tokens = sorted(said)
            save_table(folder / file, tokens, encoder.encode([said[token] for token in tokens]))
        write_json(folder / COSTS, texts_costs(path))

    folder = house.artifacts.get(KIND, profile_vectors_recipe(need, ready, cell), make)
    return Found(folder, encoder.name, _notes(need, ready))


def _notes(need: ProfileVectors, ready: Prepared) -> list[str]:
    return [WRITTEN[need.profiles]] if need.profiles in WRITTEN else texts_notes(need, ready)
