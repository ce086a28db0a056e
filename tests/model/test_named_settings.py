"""Settings that published rows and claims name, against the models that read them."""

import importlib

import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.catalogue import properties_folder
from recbole_llmgraph.model.catalogue import model_cards
from recbole_llmgraph.report.measured import Asked, answers, whole_models
from recbole_llmgraph.report.published import published_table, published_tables


def test_rows_name_settings_that_the_model_has() -> None:
    """A row's settings are read by its model, so that it can be measured at all."""
    known = model_cards()
    for name in published_tables():
        for row, card in published_table(name).rows.items():
            if card.model in known:
                settings = known[card.model].load().settings
                try:
                    settings.read(card.set, f"{name}: {row}")
                except UserError as error:
                    pytest.fail(str(error))


def test_whole_models_name_real_settings_and_every_ablation_breaks_one() -> None:
    assert (properties_folder() / "whole.yaml").is_file()
    for name, whole in whole_models().items():
        if name not in model_cards():
            continue
        kind = model_cards()[name].load()
        assert kind.settings.read(whole, name)
        module = importlib.import_module(kind.__module__)
        base = kind.settings().model_dump()
        assert answers(Asked(name, {}), name, base)
        for ablation in getattr(module, "ablations", {}).values():
            assert not answers(Asked(name, {}), name, {**base, **ablation}), ablation
