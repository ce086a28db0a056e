"""Providing what a model stands on: features, and item tables that another cell trains."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from recbole_llmgraph.artifact.tables import load_table
from recbole_llmgraph.artifact.text_features import text_features_file
from recbole_llmgraph.base.files import new_file
from recbole_llmgraph.base.hashing import hash_data, hash_file
from recbole_llmgraph.data.prepare import Prepared
from recbole_llmgraph.data.side import feature_file, item_texts
from recbole_llmgraph.model.catalogue import model_card
from recbole_llmgraph.model.needs import ItemFeature, ItemTable, ItemTexts, Need, TextFeatures
from recbole_llmgraph.store.record import Stage
from recbole_llmgraph.suite.cell import Cell, resolve_cell
from recbole_llmgraph.suite.house import House

#: Trains a cell's item table unless it is there: (cell) -> (run key, file).
TableMaker = Callable[[Cell], tuple[str, Path]]


@dataclass
class Provided:
    """Needs met.

    Attributes:
        paths: setting -> file, '' where a dataset has no such feature.
        identities: setting -> what lies there, for the run key.
        notes: what a reader of the row must know.
        stages: earlier cells that were used.
        text_encoder: name of the sentence encoder, when one was used.
    """

    paths: dict[str, str] = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    text_encoder: str | None = None


def provide(cell: Cell, house: House, ready: Prepared, make_table: TableMaker) -> Provided:
    """Meet every need of a cell."""
    given = Provided()
    for need in cell.needs:
        _meet(need, cell, house, ready, make_table, given)
    return given


def _meet(
    need: Need, cell: Cell, house: House, ready: Prepared, make_table: TableMaker, given: Provided
) -> None:
    match need:
        case TextFeatures(name, encoder):
            path = text_features_file(item_texts(ready), encoder, house.artifacts)
            given.text_encoder = str(load_table(path).meta["encoder"])
            given.paths[name] = str(path)
            given.identities[name] = path.parent.name
            given.notes += [f"item text: {note}" for note in ready.manifest["notes"] if "text" in note]
        case ItemFeature(name, feature):
            image = feature_file(ready, feature) if feature in ready.card.features else None
            given.paths[name] = str(image) if image else ""
            given.identities[name] = hash_file(image)[:16] if image else ""
            if image is None:
                given.notes.append(f"no item {feature}s in this dataset: text alone")
        case ItemTable(name, model):
            stage = stage_cell(cell, model)
            key, path = make_table(stage)
            given.paths[name] = str(path)
            given.identities[name] = key
            given.stages.append(Stage(model=model, key=key, artifact=path.parent.name))
        case ItemTexts(name):
            path = _text_lines(item_texts(ready), house)
            given.paths[name] = str(path)
            given.identities[name] = path.stem


def stage_cell(cell: Cell, model: str) -> Cell:
    """The cell of an earlier stage: same dataset, protocol, preset and seed, its own settings."""
    overrides = {name: values for name, values in cell.overrides.items() if name}
    return resolve_cell(
        model_card(model),
        cell.dataset,
        protocol=cell.protocol,
        preset=cell.preset,
        seed=cell.seed,
        overrides=overrides,
    )


def with_paths(cell: Cell, given: Provided) -> Cell:
    """The cell with every provided path in its setting."""
    return replace(cell, settings=cell.settings.model_copy(update=given.paths))


def _text_lines(texts: dict[str, str], house: House) -> Path:
    """Item texts as one file, one line an item, named by their hash."""
    lines = [texts[token].replace("\n", " ") for token in sorted(texts)]
    path = house.artifacts.root / "item_texts" / f"{hash_data(lines)}.txt"
    if not path.exists():
        with new_file(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
