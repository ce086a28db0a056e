"""For a user's own RecBole script: the settings that a suite run would use, as one config dict."""

from pathlib import Path
from typing import Any

from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.host.config import recbole_values
from recbole_llmgraph.host.evaluation import SCORES_AT_ONCE
from recbole_llmgraph.host.models import config_values
from recbole_llmgraph.model.catalogue import Preset, model_card
from recbole_llmgraph.suite.cell import Cell, choose_protocol, resolve_cell
from recbole_llmgraph.suite.house import House, default_data_folder
from recbole_llmgraph.suite.provide import with_paths
from recbole_llmgraph.suite.run import Runner


def recbole_settings(
    model: str,
    dataset: str,
    *,
    preset: Preset = "standard",
    seed: int = 1,
    store: Path | str = "runs",
    data: Path | str | None = None,
    source: Path | str | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """`config_dict` for `recbole.config.Config(model=..., dataset=..., config_dict=...)`.

    Prepares the dataset, and trains or finds what the model stands on (HeLLM: HeLLMPre and
    SASRec), just as `benchmarks/run.py` does; both are kept in `store` and never made twice.
    Under `rate` and `sign` the script trains without the hold-out, on which RecBole's trainer selects.

    Args:
        model: name of a model of the suite.
        dataset: name of a dataset or path of a card.
        preset: group of settings to start from.
        seed: of the stages and of the script's own run.
        store: folder of runs and artifacts.
        data: folder of prepared data.
        source: folder of raw files.
        settings: changes to the model's settings.

    Raises:
        UserError: for an unknown name or setting.
    """
    card = dataset_card(dataset)
    chosen = model_card(model)
    cell = resolve_cell(
        chosen,
        card,
        protocol=choose_protocol([chosen], card, None),
        preset=preset,
        seed=seed,
        overrides={chosen.name: settings},
    )
    house = House(
        store=Path(store),
        data=Path(data) if data else default_data_folder(),
        source=Path(source) if source else None,
    )
    return _config_dict(cell.selecting, house)


def _config_dict(cell: Cell, house: House) -> dict[str, Any]:
    """A cell as RecBole's config keys, with everything it stands on made."""
    ready = house.ready(cell.dataset)
    given = Runner(house).provide(cell)
    of_model = getattr(cell.model_class, "recbole_config", config_values)
    values = recbole_values(
        cell.model.family,
        of_model(with_paths(cell, given).settings),
        folder=ready.folder,
        protocol=cell.protocol,
        seed=cell.seed,
        held_out=cell.held_out,
    )
    # RecBole counts users in a sequential evaluation batch and scores in a general one.
    items = int(ready.manifest["counts"]["items"])
    values["eval_batch_size"] = SCORES_AT_ONCE // (items if cell.model.family == "sequential" else 1)
    return values
