"""Providing what a model stands on: features, and item tables that another cell trains."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from recbole_llmgraph.artifact.tables import load_table
from recbole_llmgraph.artifact.text_features import text_features_file, text_features_identity
from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import new_file
from recbole_llmgraph.base.hashing import hash_data, hash_file
from recbole_llmgraph.data.prepare import Prepared
from recbole_llmgraph.data.side import feature_file, item_texts, unknown_provenance
from recbole_llmgraph.model.catalogue import model_card
from recbole_llmgraph.model.needs import (
    Augmentation,
    Groups,
    ItemFeature,
    ItemTable,
    ItemTexts,
    ItemTitles,
    Need,
    OracleEdges,
    ProfileVectors,
    Reranker,
    RerankTexts,
    TextFeatures,
    UserTable,
)
from recbole_llmgraph.oracle.cost import together
from recbole_llmgraph.store.record import Stage
from recbole_llmgraph.suite.augment import augmentation_file, augmentation_recipe
from recbole_llmgraph.suite.cell import Cell, Overrides, resolve_cell
from recbole_llmgraph.suite.edges import edges_file, edges_recipe
from recbole_llmgraph.suite.groups import groups_file, groups_recipe
from recbole_llmgraph.suite.house import House, released_test
from recbole_llmgraph.suite.profile_vectors import profile_vectors_file, profile_vectors_recipe
from recbole_llmgraph.suite.rerank import (
    COSTS,
    reranker_file,
    reranker_recipe,
    texts_costs,
    texts_file,
    texts_notes,
    texts_recipe,
)

#: Whose vectors a table holds.
Side = Literal["item", "user"]
#: Run key of a cell.
KeyOf = Callable[[Cell], str]
#: File of a cell's vectors of `item`s or `user`s; trains the cell unless the file is there.
MakeTable = Callable[[Cell, Side], Path]
#: Folder of a cell's candidates, likewise.
MakeCandidates = Callable[[Cell], Path]
#: Training ratings of a cell, by token.
ReadRows = Callable[[Cell], pd.DataFrame]
#: Needs that an earlier cell meets.
Staged = ItemTable | UserTable | OracleEdges | Augmentation | Reranker
#: Needs whose oracle's options are in their identity, as far as they decide anything.
Asked = OracleEdges | Augmentation | Groups | RerankTexts | ProfileVectors | Reranker
#: Settings that a stage which offers candidates goes without: it has no edges of its own.
OF_EDGES = ("oracle", "edge_fraction", "oracle_options")


@dataclass
class Provided:
    """Needs met.

    Attributes:
        paths: setting -> file, '' where a dataset has no such feature.
        notes: what a reader of the row must know.
        stages: earlier cells that were used.
        text_encoder: name of the sentence encoder, when one was used.
        backbone: name of the language model of a classifier that was trained for the cell.
        costs: of an oracle's answers, by task.
    """

    paths: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    text_encoder: str | None = None
    backbone: str | None = None
    costs: dict[str, Any] = field(default_factory=dict)


def identify(cell: Cell, ready: Prepared, key_of: KeyOf) -> dict[str, str]:
    """Identity of everything a cell stands on, by the setting it fills; nothing is made or trained."""
    found = {need.field: _identity(need, cell, ready, key_of) for need in cell.needs}
    if any(isinstance(need, Asked) for need in cell.needs):
        found["oracle_options"] = ""  # those that decide anything are in the edges' identity
    return found


def _identity(need: Need, cell: Cell, ready: Prepared, key_of: KeyOf) -> str:
    match need:
        case TextFeatures():
            return text_features_identity(item_texts(ready), need.encoder)
        case ItemFeature():
            file = _feature(need, ready)
            return hash_file(file)[:16] if file else ""
        case ItemTable() | UserTable():
            return key_of(stage_of(cell, need))
        case ItemTexts():
            return hash_data(_text_lines(ready))
        case ItemTitles():
            return hash_data(item_texts(ready))
        case OracleEdges():
            return hash_data(edges_recipe(need, ready, key_of(stage_of(cell, need)), cell.seed))
        case Augmentation():
            return hash_data(augmentation_recipe(need, ready, key_of(stage_of(cell, need)), cell.seed))
        case Groups():
            return hash_data(groups_recipe(need, ready, cell))
        case RerankTexts():
            return hash_data(texts_recipe(need, ready, cell))
        case ProfileVectors():
            return hash_data(profile_vectors_recipe(need, ready, cell))
        case Reranker():
            return hash_data(reranker_recipe(need, ready, cell, key_of(stage_of(cell, need))))


def provide(
    cell: Cell,
    house: House,
    ready: Prepared,
    key_of: KeyOf,
    make_table: MakeTable,
    make_candidates: MakeCandidates,
    read_rows: ReadRows,
    read_targets: ReadRows,
) -> Provided:
    """Meet every need of a cell: encode, read, train."""
    given = Provided()
    if released := released_test(ready, cell.protocol):
        given.notes.append(f"test part as released: {released.note}")
    for need in cell.needs:
        match need:
            case TextFeatures():
                path = text_features_file(item_texts(ready), need.encoder, house.artifacts)
                given.paths[need.field] = str(path)
                given.text_encoder = str(load_table(path).meta["encoder"])
                if doubtful := unknown_provenance(ready):
                    given.notes.append(f"provenance unknown: item text {', '.join(doubtful)}")
            case ItemFeature():
                file = _feature(need, ready)
                given.paths[need.field] = str(file or "")
                if file is None:
                    given.notes.append(f"no item {need.name}s in this dataset: text alone")
            case ItemTable() | UserTable():
                stage = stage_of(cell, need)
                path = make_table(stage, "item" if isinstance(need, ItemTable) else "user")
                given.paths[need.field] = str(path)
                used = Stage(model=need.model, key=key_of(stage), artifact=path.parent.name)
                if used not in given.stages:  # items' and users' vectors of one stage
                    given.stages.append(used)
            case ItemTexts():
                given.paths[need.field] = str(_text_file(ready, house))
            case ItemTitles():
                given.paths[need.field] = str(_title_file(ready, house))
                if doubtful := unknown_provenance(ready):
                    given.notes.append(f"provenance unknown: item text {', '.join(doubtful)}")
            case _:
                _meet_asked(need, cell, house, ready, given, key_of, make_candidates, read_rows, read_targets)
    return given


def _meet_asked(
    need: Asked,
    cell: Cell,
    house: House,
    ready: Prepared,
    given: Provided,
    key_of: KeyOf,
    make_candidates: MakeCandidates,
    read_rows: ReadRows,
    read_targets: ReadRows,
) -> None:
    """Meet a need for which an oracle, or what stands in for one, is asked."""
    if isinstance(need, Groups):
        grouped = groups_file(need, ready, cell, house, partial(read_rows, cell))
        given.paths[need.field] = str(grouped.path)
        given.notes += grouped.notes
        given.costs = together(given.costs, grouped.costs)
        return
    if isinstance(need, ProfileVectors):
        found = profile_vectors_file(need, ready, cell, house, partial(read_rows, cell))
        given.paths[need.field], given.text_encoder = str(found.path), found.encoder
        given.notes += found.notes
        given.costs = together(given.costs, texts_costs(found.path / COSTS))
        return
    if isinstance(need, RerankTexts):
        texts = texts_file(need, ready, cell, house, partial(read_rows, cell))
        given.paths |= {need.field: str(texts), "rerank_max_cost": str(house.max_cost or "")}
        given.notes += [
            note for note in texts_notes(need, ready) if not any(note in told for told in given.notes)
        ]
        given.costs = together(given.costs, texts_costs(texts))
        return
    stage = stage_of(cell, need)
    key, make = key_of(stage), partial(make_candidates, stage)
    if isinstance(need, Reranker):
        rows = partial(read_rows, cell.selecting), partial(read_targets, cell.selecting)
        trained = reranker_file(need, ready, cell, house, key, make, *rows)
        given.paths[need.field] = str(trained.path)
        given.notes += trained.notes
        given.backbone = trained.backbone
    else:
        common = ready, key, cell.seed, house.artifacts, make, house.max_cost
        if isinstance(need, OracleEdges):
            edges = edges_file(need, *common)
        else:
            edges = augmentation_file(need, *common)
        given.paths[need.field] = str(edges.path)
        given.notes.append(edges.note)
        given.costs = together(given.costs, edges.costs)
    given.stages.append(Stage(model=need.model, key=key))


def stage_of(cell: Cell, need: Staged) -> Cell:
    """The earlier cell that meets a need."""
    edged = isinstance(need, OracleEdges | Augmentation | Reranker)
    stage = stage_cell(cell, need.model, OF_EDGES if edged else ())
    return stage.selecting if isinstance(need, Reranker) else stage


def stages(cell: Cell) -> Iterator[Cell]:
    """Cells that a cell stands on, and those that these stand on; their settings are validated."""
    for need in cell.needs:
        if isinstance(need, Staged):
            stage = stage_of(cell, need)
            yield stage
            yield from stages(stage)


def refuse_strangers(overrides: Overrides, cells: Sequence[Cell]) -> None:
    """Refuse settings of a model that is neither planned nor a stage of what is.

    Raises:
        UserError: naming the models whose settings could be meant, or a stage's own mistake.
    """
    known = {one.model.name for cell in cells for one in (cell, *stages(cell))}
    for owner, values in overrides.items():
        if owner not in known:
            told = f"no planned model stands on {owner}; settings here belong to {', '.join(sorted(known))}"
            raise UserError(f"--set {owner}.{next(iter(values))}: {told}")


def stage_cell(cell: Cell, model: str, without: Collection[str] = ()) -> Cell:
    """The cell of an earlier stage: same dataset, protocol, preset and seed, its own settings.

    What the command line says of the settings `without` is not meant for it: a LightGCN with edges stands on
    one that has none.
    """
    overrides = {name: values for name, values in cell.overrides.items() if name}
    asked = overrides.get(model, {})
    overrides[model] = {key: value for key, value in asked.items() if key not in without}
    stage = resolve_cell(
        model_card(model),
        cell.dataset,
        protocol=cell.protocol,
        preset=cell.preset,
        seed=cell.seed,
        overrides=overrides,
    )
    return replace(stage, held_out=cell.held_out)


def with_paths(cell: Cell, given: Provided) -> Cell:
    """The cell with every provided path in its setting."""
    return replace(cell, settings=cell.settings.model_copy(update=given.paths))


def _feature(need: ItemFeature, ready: Prepared) -> Path | None:
    return feature_file(ready, need.name) if need.name in ready.card.features else None


def _text_lines(ready: Prepared) -> list[str]:
    """Item texts, one line an item, by item token."""
    texts = item_texts(ready)
    return [texts[token].replace("\n", " ") for token in sorted(texts)]


def _text_file(ready: Prepared, house: House) -> Path:
    """The same as a file, named by its hash."""
    lines = _text_lines(ready)
    path = house.artifacts.root / "item_texts" / f"{hash_data(lines)}.txt"
    if not path.exists():
        with new_file(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _title_file(ready: Prepared, house: House) -> Path:
    """Item texts by token, as one JSON object."""
    texts = item_texts(ready)
    path = house.artifacts.root / "item_titles" / f"{hash_data(texts)}.json"
    if not path.exists():
        with new_file(path) as temporary:
            temporary.write_text(json.dumps(texts, ensure_ascii=False, sort_keys=True), encoding="utf-8")
    return path
