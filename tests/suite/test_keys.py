"""Cells and their keys: what decides a result is in the key, and nothing else is."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pydantic import PositiveFloat

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.catalogue import DatasetCard, dataset_card, dataset_cards
from recbole_llmgraph.model.catalogue import PRESETS, ModelCard, model_card, model_cards
from recbole_llmgraph.suite.cell import Cell, choose_protocol, resolve_cell
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.run import Runner
from recbole_llmgraph.train.settings import TrainSettings


class MadeSettings(TrainSettings):
    """Settings of a made model."""

    width: int = 64
    tau: PositiveFloat = 0.5
    features: str = ""


class NewerSettings(MadeSettings):
    """A later version of the same settings: one more, whose default keeps the old behaviour."""

    gate: bool = False


def made(**changes: Any) -> Cell:
    """A cell of a made model; nothing of it can change but by these lines."""
    card = ModelCard(
        name="Made", summary="made", class_="made.model:Made", kind="baseline", family="general",
        results_version=3,
    )  # fmt: skip
    values = {"width": 32, "tau": 0.25, "features": "somewhere/features.safetensors"}
    cell = Cell(
        model=card, dataset=dataset_card("ml-100k"), protocol="seq", preset="quick", seed=7,
        settings=MadeSettings.read(values),
    )  # fmt: skip
    return replace(cell, **changes)


FINGERPRINT, STANDS_ON = "0123456789abcdef", {"features": "fedcba9876543210"}


def key(cell: Cell, fingerprint: str = FINGERPRINT, stands_on: dict[str, str] = STANDS_ON) -> str:
    return cell.key(fingerprint, stands_on)


def test_a_key_is_what_it_always_was() -> None:
    """These keys lie in published run folders. If they change, every finished run is trained again.

    Change them only together with the stores that are published.
    """
    assert key(made()) == "dc87f941623bd975"
    assert key(made(settings=MadeSettings()), stands_on={}) == "6e4171719e1686d1"


def settings(**changes: Any) -> Any:
    return made().settings.model_copy(update=changes)


def test_everything_that_decides_the_result_is_in_the_key() -> None:
    cell = made()
    others = [
        key(replace(cell, seed=8)),
        key(replace(cell, protocol="rate")),
        key(replace(cell, settings=settings(tau=0.3))),
        key(replace(cell, settings=settings(epochs=7))),
        key(cell, fingerprint="0" * 16),
        key(cell, stands_on={"features": "0" * 16}),
        key(replace(cell, model=cell.model.model_copy(update={"results_version": 4}))),
        key(replace(cell, model=cell.model.model_copy(update={"name": "Other"}))),
    ]
    assert len({key(cell), *others}) == len(others) + 1


def test_what_decides_nothing_is_not_in_the_key() -> None:
    cell = made()
    same = [
        replace(cell, preset="standard"),  # the same settings by another road
        replace(cell, overrides={"Made": {"tau": 0.25}}),
        replace(cell, settings=settings(features="/elsewhere/features.safetensors")),  # a path of one machine
        replace(cell, dataset=dataset_card("ml-100k").model_copy(update={"title": "another title"})),
        replace(cell, model=cell.model.model_copy(update={"summary": "said better", "paper": None})),
    ]
    assert {key(other) for other in same} == {key(cell)}


def test_a_setting_at_its_default_is_left_out() -> None:
    values = {"width": 32, "tau": 0.25, "features": "somewhere/features.safetensors"}
    spelled_out = MadeSettings.read({**values, "epochs": MadeSettings().epochs})
    assert key(made(settings=spelled_out)) == key(made())
    assert key(made(settings=NewerSettings.read(values))) == key(made())
    assert key(made(settings=NewerSettings.read({**values, "gate": True}))) != key(made())


def test_outside_models_are_known_by_module_and_class() -> None:
    card = made().model
    one, two = (
        replace(made(), model=card.model_copy(update={"kind": "outside", "class_": f"{module}:Made"}))
        for module in ("mine.one", "mine.two")
    )
    assert key(one) != key(two)


# -- real cells ----------------------------------------------------------------------------


def runner_key(workshop: Any, cell: Cell, folder: Path) -> str:
    house = House(store=folder, data=workshop.miniature.data, source=workshop.miniature.source)
    return Runner(house).key(cell)


def test_keys_are_the_same_in_every_folder_and_train_nothing(workshop: Any, tmp_path: Path) -> None:
    cell = workshop.cell("HeLLM")
    keys = {runner_key(workshop, cell, tmp_path / name) for name in ("one", "two")}
    assert len(keys) == 1
    assert not list(tmp_path.glob("*/*/*"))


def test_a_stages_settings_are_in_the_key_of_what_stands_on_it(workshop: Any, tmp_path: Path) -> None:
    cell = workshop.cell("HeLLM")

    def changed(model: str, name: str, value: Any) -> str:
        overrides = {**cell.overrides, model: {**cell.overrides[model], name: value}}
        return runner_key(workshop, replace(cell, overrides=overrides), tmp_path)

    same = runner_key(workshop, cell, tmp_path)
    assert changed("HeLLMPre", "tau", 0.123) != same
    assert changed("SASRec", "epochs", 9) != same
    assert changed("LightGCN", "epochs", 9) == same
    assert runner_key(workshop, workshop.cell("HeLLM", seed=2), tmp_path) != same


def test_a_stage_is_the_cell_that_its_own_command_would_run(workshop: Any, tmp_path: Path) -> None:
    from recbole_llmgraph.suite.provide import stage_cell

    stage = stage_cell(workshop.cell("HeLLM"), "HeLLMPre")
    assert stage.settings == workshop.cell("HeLLMPre").settings
    keys = [runner_key(workshop, cell, tmp_path) for cell in (stage, workshop.cell("HeLLMPre"))]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("model", sorted(model_cards()))
def test_every_preset_of_every_model_is_valid_on_every_dataset(model: str, preset: Any) -> None:
    """A card's typo shows here and not after an hour."""
    card = model_card(model)
    for dataset, protocol in product(dataset_cards(), card.runs_under):
        own = card.wants_protocol(dataset.name) or dataset.protocols[0]
        try:
            cell = resolve_cell(card, dataset, protocol=protocol, preset=preset, seed=1, overrides={})
        except UserError as refused:  # a part may need ratings or a hold-out; the mend is told
            assert protocol != own and "type --protocol" in str(refused)
        else:
            assert type(cell.settings) is card.load().settings


def test_later_layers_win() -> None:
    card = ModelCard(
        name="BPR", summary="", class_="recbole_llmgraph.model.baseline.bpr:BPR", family="general",
        presets={"quick": {"epochs": 2, "train_batch_size": 2, "eval_step": 2, "learning_rate": 0.2}},
        datasets={"ml-100k": {"all": {"train_batch_size": 3, "eval_step": 3, "learning_rate": 0.3},
                              "quick": {"eval_step": 4, "learning_rate": 0.4}}},
    )  # fmt: skip
    cell = resolve_cell(
        card, dataset_card("ml-100k"), protocol="seq", preset="quick", seed=1,
        overrides={"BPR": {"learning_rate": 0.5}},
    )  # fmt: skip
    found = cell.settings
    assert (found.epochs, found.train_batch_size, found.eval_step, found.learning_rate) == (2, 3, 4, 0.5)
    assert found.stopping_step == type(found)().stopping_step


# -- protocols -----------------------------------------------------------------------------


def wanting(name: str, protocol: Any) -> ModelCard:
    return ModelCard(name=name, summary="", class_="made:Made", family="general", protocol=protocol)


@pytest.fixture
def offering() -> DatasetCard:
    return dataset_card("ml-100k").model_copy(update={"protocols": ["seq"]})


def test_models_that_disagree_are_an_error_that_says_so() -> None:
    both = [wanting("One", "seq"), wanting("Two", {"ml-100k": "rate"}), wanting("Three", "card")]
    with pytest.raises(UserError, match=r"ml-100k: One wants seq, Two wants rate; name one with --protocol"):
        choose_protocol(both, dataset_card("ml-100k"), None)
    assert choose_protocol(both, dataset_card("ml-100k"), "seq") == "seq"


def test_a_protocol_is_the_models_or_else_the_datasets(offering: DatasetCard) -> None:
    assert choose_protocol([wanting("One", "card")], offering, None) == "seq"
    assert choose_protocol([wanting("One", {"beauty": "rate"})], offering, None) == "seq"
    assert choose_protocol([wanting("One", "seq"), wanting("Two", "card")], offering, None) == "seq"


@pytest.mark.parametrize("asked", ["rate", "leave-two-out"])
def test_a_protocol_that_the_dataset_does_not_offer_is_refused(offering: DatasetCard, asked: str) -> None:
    with pytest.raises(UserError, match=f"--protocol {asked}: ml-100k offers seq"):
        choose_protocol([wanting("One", "card")], offering, asked)
