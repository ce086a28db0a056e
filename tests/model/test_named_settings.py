"""Settings that published rows and claims name, against the models that read them."""

import importlib
from typing import Any

import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.catalogue import properties_folder
from recbole_llmgraph.model.catalogue import model_cards
from recbole_llmgraph.report.claims import ledgers
from recbole_llmgraph.report.measured import Asked, answers, whole_models
from recbole_llmgraph.report.published import published_table, published_tables


def named() -> list[tuple[str, str, dict[str, Any]]]:
    """Place, model and settings of every published row and every side of a claim."""
    rows = [
        (f"{name}: {row}", card.model, card.set)
        for name in published_tables()
        for row, card in published_table(name).rows.items()
    ]
    claims = [(f"{one.name}: {claim.name}", claim) for one in ledgers().values() for claim in one.claims]
    return rows + [
        (place, who.model, who.set) for place, claim in claims for pair in claim.comparisons for who in pair
    ]


def test_published_rows_and_claims_name_settings_that_the_model_has() -> None:
    """Settings are read by their model, so that what they ask for can be run at all."""
    known = model_cards()
    for place, model, settings in named():
        if model in known:
            try:
                read = known[model].load().settings.read(settings, place)
            except UserError as error:
                pytest.fail(str(error))
            assert {key: getattr(read, key) for key in settings} == settings, place


def test_whole_models_name_real_settings_and_every_ablation_breaks_one() -> None:
    assert (properties_folder() / "whole.yaml").is_file()
    for name, whole in whole_models().items():
        if name not in model_cards():
            continue
        kind = model_cards()[name].load()
        exact = {key: value for key, value in whole.items() if not isinstance(value, dict)}
        assert kind.settings.read(exact, name) and set(whole) <= set(kind.settings.model_fields)
        module = importlib.import_module(kind.__module__)
        base = kind.settings().model_dump()
        assert answers(Asked(name, {}), name, base)
        for ablation in getattr(module, "ablations", {}).values():
            assert not answers(Asked(name, {}), name, {**base, **ablation}), ablation
