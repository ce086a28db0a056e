"""A cell: one model on one dataset under one protocol with one group of settings and one seed."""

from dataclasses import dataclass, field, replace
from typing import Any

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.hashing import hash_data
from recbole_llmgraph.data.catalogue import DatasetCard
from recbole_llmgraph.host.config import PROTOCOLS, has_hold_out, measured, protocol_values
from recbole_llmgraph.host.evaluation import Mask
from recbole_llmgraph.model.catalogue import ModelCard, Preset
from recbole_llmgraph.model.needs import Augmentation, Need, OracleEdges, Reranker
from recbole_llmgraph.train.settings import TrainSettings

#: Settings given on the command line: model name ('' for every named model) -> key -> value.
Overrides = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """One training and its evaluation.

    Attributes:
        model: card of the model.
        dataset: card of the dataset.
        protocol: how it is split and judged.
        preset: the preset its settings started from.
        settings: complete and validated.
        seed: of weights, batches and samplers.
        overrides: what the command line changed, for this model and for the stages it stands on.
        held_out: train without the hold-out of `rate` and `sign`, to select on it; never a row of a table.
    """

    model: ModelCard
    dataset: DatasetCard
    protocol: str
    preset: Preset
    settings: TrainSettings
    seed: int
    overrides: Overrides = field(default_factory=dict)
    held_out: bool = False

    @property
    def model_class(self) -> Any:
        """The RecBole model class."""
        return self.model.load()

    @property
    def needs(self) -> list[Need]:
        """What the model stands on under these settings."""
        find = getattr(self.model_class, "needs", None)
        return list(find(self.settings)) if find else []

    @property
    def label(self) -> str:
        """`HeLLM on beauty, seed 1`, as progress lines print it."""
        part = " (without hold-out)" if self.held_out else ""
        return f"{self.model.name} on {self.dataset.name}, seed {self.seed}{part}"

    @property
    def selecting(self) -> "Cell":
        """The cell whose validation selects: this one, or the one that is trained without the hold-out."""
        return replace(self, held_out=has_hold_out(self.protocol))

    @property
    def trained_as(self) -> "Cell":
        """The cell whose weights are this one's: this one, or that of settings which train the same."""
        find = getattr(self.model_class, "trained_as", None)
        preset = self.preset_settings
        same: dict[str, Any] = find(self.settings, preset) if find else {}
        if all(getattr(self.settings, name) == value for name, value in same.items()):
            return self
        asked = self.overrides.get(self.model.name, {})
        kept = {key: value for key, value in asked.items() if key not in same}
        kept |= {name: value for name, value in same.items() if value != getattr(preset, name)}
        return replace(
            self,
            settings=self.settings.model_copy(update=same),
            overrides={**self.overrides, self.model.name: kept},
        )

    @property
    def preset_settings(self) -> TrainSettings:
        """What the preset alone would say."""
        values = self.model.preset_settings(self.dataset.name, self.preset)
        return type(self.settings).read(values, self.model.name)

    def key(self, dataset_fingerprint: str, stands_on: dict[str, str]) -> str:
        """Hash of all that decides the result. Code version and machine are recorded, never keyed.

        Settings at their class default are left out: a new setting whose default keeps the old
        behaviour keeps old keys; a changed default must raise the model's `results_version`.

        Args:
            dataset_fingerprint: hash of the prepared files that the model reads.
            stands_on: identity of each need, by the setting it fills.
        """
        named = self.settings.model_dump(exclude_defaults=True)
        settings = {k: v for k, v in named.items() if k not in stands_on}
        return hash_data(
            {
                "model": self.model.name if self.model.kind != "outside" else self.model.class_,
                "results_version": self.model.results_version,
                "dataset": dataset_fingerprint,
                "protocol": self.protocol,
                "settings": settings,
                "stands_on": stands_on,
                "seed": self.seed,
                **({"held_out": True} if self.held_out else {}),
            }
        )


def resolve_cell(
    model: ModelCard,
    dataset: DatasetCard,
    *,
    protocol: str,
    preset: Preset,
    seed: int,
    overrides: Overrides,
) -> Cell:
    """Settings of a cell: class defaults, preset, dataset, then the command line; all validated.

    Raises:
        UserError: for an unknown setting or a wrong value, and for a file that the suite itself provides.
    """
    kind: type[TrainSettings] = getattr(model.load(), "settings", TrainSettings)
    asked = overrides.get(model.name, {})
    settings = kind.read({**model.preset_settings(dataset.name, preset), **asked}, model.name)
    cell = Cell(model, dataset, protocol, preset, settings, seed, overrides)
    for need in cell.needs:
        if need.field in asked:
            raise UserError(f"{model.name}.{need.field}: the suite provides this file; leave it out")
        if not has_hold_out(protocol):
            _refuse_unrated(model.name, need, protocol)
    if settings.valid_metric not in (known := measured(protocol)):
        told = f"{model.name}.valid_metric={settings.valid_metric}"
        raise UserError(f"{told}: protocol {protocol} measures {', '.join(known)}")
    return cell


def _refuse_unrated(model: str, need: Need, protocol: str) -> None:
    """Refuse what only a protocol with ratings and a hold-out has."""
    match need:
        case OracleEdges():
            what, mend = f"oracle={need.oracle}: edges are ratings", "--protocol rate, or --set oracle=off"
        case Augmentation():
            what, mend = f"augment={need.sides}: edges are ratings", "--protocol sign, or --set augment=none"
        case Reranker():
            what, mend = (
                "rerank=classifier: it learns from a hold-out",
                "--protocol sign, or --set rerank=off",
            )
        case _:
            return
    raise UserError(f"{model}.{what}, which protocol {protocol} has not; type {mend}")


def selection_mask(cell: Cell) -> Mask:
    """The mask under which validation picks epochs: the dataset's own."""
    return cell.dataset.mask_default


def variant_name(cell: Cell) -> str:
    """How a cell differs from its preset, as `tau=0.3`; the preset's own value, typed, is no change.

    Values stand as they were read, so that one setting has one name however it was typed.
    """
    own, now = cell.preset_settings.model_dump(), cell.settings.model_dump()
    asked = cell.overrides.get(cell.model.name, {})
    return " ".join(f"{key}={now[key]}" for key in sorted(asked) if now[key] != own[key])


def choose_protocol(models: list[ModelCard], dataset: DatasetCard, asked: str | None) -> str:
    """Protocol of a run: as asked, else what the models declare, else the dataset's first.

    Raises:
        UserError: when two models disagree, or the dataset or a model does not offer the protocol.
    """
    wanted = {m.name: p for m in models if (p := m.wants_protocol(dataset.name))}
    if asked is None and len(set(wanted.values())) > 1:
        said = ", ".join(f"{name} wants {protocol}" for name, protocol in wanted.items())
        raise UserError(f"{dataset.name}: {said}; name one with --protocol")
    protocol = asked or next(iter(wanted.values()), dataset.protocols[0])
    name = protocol.partition("@")[0]  # rate@2 is another draw of rate
    if name not in dataset.protocols or name not in PROTOCOLS:
        offered = ", ".join(p for p in dataset.protocols if p in PROTOCOLS)
        raise UserError(f"--protocol {protocol}: {dataset.name} offers {offered}")
    protocol_values(protocol)
    for model in models:
        if name not in model.runs_under:
            told = f"{model.name} runs under {', '.join(model.runs_under)}"
            raise UserError(f"--protocol {protocol}: {told}; name one of these, or leave the model out")
    return protocol
