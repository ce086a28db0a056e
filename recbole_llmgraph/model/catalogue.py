"""The models of the suite, read from `properties/model/*.yaml` without importing torch.

A card says what a model is, where its class lives and which settings each preset gives it.
"""

import importlib
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from recbole_llmgraph.base.errors import UserError, unknown
from recbole_llmgraph.base.files import read_yaml
from recbole_llmgraph.base.settings import Settings
from recbole_llmgraph.data.catalogue import properties_folder

Preset = Literal["quick", "standard", "paper"]
PRESETS: tuple[Preset, ...] = ("quick", "standard", "paper")


class Paper(Settings):
    """Where a model was published."""

    title: str
    authors: str = ""
    venue: str = ""
    year: int
    url: str = ""


class ModelCard(Settings):
    """One model of the suite.

    `presets` hold settings by preset name; `datasets` hold changes by dataset, under `all`
    or a preset name. Later layers win: class defaults, preset, dataset `all`, dataset preset.
    """

    name: str
    summary: str
    class_: str = Field(pattern=r"^[\w.]+:\w+$")
    kind: Literal["baseline", "graph", "graph-llm", "outside"] = "outside"
    family: Literal["general", "sequential"]
    results_version: int = 1
    protocol: str | dict[str, str] = "card"
    """What it wants, for all datasets or by dataset; `card` leaves it to the dataset."""
    protocols: list[Literal["seq", "rate", "sign"]] = []
    """Under which it can run at all; empty: everywhere, and sequential models where there is an order."""
    paper: Paper | None = None
    presets: dict[Preset, dict[str, Any]] = {}
    datasets: dict[str, dict[Literal["all"] | Preset, dict[str, Any]]] = {}

    def preset_settings(self, dataset: str, preset: Preset) -> dict[str, Any]:
        """Plain settings that a preset gives this model on a dataset."""
        changes = self.datasets.get(dataset, {})
        return {**self.presets.get(preset, {}), **changes.get("all", {}), **changes.get(preset, {})}

    def wants_protocol(self, dataset: str) -> str | None:
        """Protocol that the model declares for a dataset; None leaves it to the dataset's card."""
        wanted = self.protocol if isinstance(self.protocol, str) else self.protocol.get(dataset, "card")
        return None if wanted == "card" else wanted

    @property
    def runs_under(self) -> list[str]:
        """Protocols under which the model can run."""
        return [*self.protocols] or (["seq"] if self.family == "sequential" else ["seq", "rate", "sign"])

    def load(self) -> Any:
        """Import the model class."""
        module, _, name = self.class_.partition(":")
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name and not module.startswith(error.name):
                raise
            raise UserError(f"--model {self.class_}: no module '{module}' on the import path") from None
        if not hasattr(found, name):
            raise UserError(f"--model {self.class_}: module '{module}' has no class '{name}'")
        return getattr(found, name)


@cache
def model_cards() -> dict[str, ModelCard]:
    """All cards by name, sorted."""
    cards = [_read_card(path) for path in sorted((properties_folder() / "model").glob("*.yaml"))]
    return {card.name: card for card in cards}


def _read_card(path: Path) -> ModelCard:
    """Card in a yaml file; the key `class` is a Python keyword, hence the alias."""
    values = read_yaml(path)
    return ModelCard.read(
        {("class_" if key == "class" else key): value for key, value in values.items()}, path.name
    )


def model_card(name: str) -> ModelCard:
    """Card of a model by name, or of an outside class written `package.module:Class`.

    Raises:
        UserError: for an unknown name, with the nearest known one.
    """
    if ":" in name:
        return _outside_card(name)
    cards = model_cards()
    if name not in cards:
        raise unknown("model", name, cards, f"--list-models shows all {len(cards)}.")
    return cards[name]


def _outside_card(path: str) -> ModelCard:
    """Card of a user's own class; its family follows from the RecBole class it extends."""
    name = path.partition(":")[2]
    draft = ModelCard.read(
        {"name": name, "summary": path, "class_": path, "family": "general"}, f"--model {path}"
    )
    kind = draft.load()
    if not all(hasattr(kind, method) for method in ("calculate_loss", "full_sort_predict")):
        raise UserError(f"--model {path}: '{name}' is no RecBole model (calculate_loss, full_sort_predict)")
    model_type = getattr(getattr(kind, "type", None), "name", "GENERAL")
    return draft.model_copy(update={"family": "sequential" if model_type == "SEQUENTIAL" else "general"})
