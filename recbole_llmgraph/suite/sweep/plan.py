"""What a sweep will run: points of its axes, each a cell of the suite."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recbole_llmgraph.base.errors import UserError, unknown
from recbole_llmgraph.data.catalogue import DatasetCard
from recbole_llmgraph.host.config import measured
from recbole_llmgraph.model.catalogue import ModelCard, Preset
from recbole_llmgraph.store.sweeps import Purpose
from recbole_llmgraph.store.trials import Point
from recbole_llmgraph.suite.cell import Cell, Overrides, resolve_cell
from recbole_llmgraph.suite.provide import stages
from recbole_llmgraph.suite.sweep.axes import Panel, points
from recbole_llmgraph.train.settings import VALID_METRICS


@dataclass(frozen=True)
class Place:
    """Where a sweep's points become cells: a model on a dataset with everything that is not swept.

    Attributes:
        overrides: of the command line and of the sweep's purpose.
    """

    model: ModelCard
    dataset: DatasetCard
    protocol: str
    preset: Preset
    overrides: Overrides
    panels: tuple[Panel, ...]

    def cell(self, point: Point, seed: int) -> Cell:
        """The cell of a point.

        Raises:
            UserError: for a value that the model refuses.
        """
        axes = {axis.label: axis for panel in self.panels for axis in panel}
        overrides = {name: dict(values) for name, values in self.overrides.items()}
        for label, value in point.items():
            overrides.setdefault(axes[label].owner, {})[axes[label].name] = value
        return resolve_cell(
            self.model,
            self.dataset,
            protocol=self.protocol,
            preset=self.preset,
            seed=seed,
            overrides=overrides,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """All settings where nothing is swept, files that the suite provides left out."""
        cell = self.cell({}, 1)
        provided = {need.field for need in cell.needs}
        return {k: v for k, v in cell.settings.model_dump().items() if k not in provided}

    @property
    def base(self) -> Point:
        """The value of each axis where nothing is swept."""
        cells = {self.model.name: self.cell({}, 1)}
        for cell in stages(cells[self.model.name]):
            cells.setdefault(cell.model.name, cell)  # LightGCN may stand on another LightGCN
        return {
            axis.label: getattr(cells[axis.owner].settings, axis.name)
            for panel in self.panels
            for axis in panel
        }


def place(
    purpose: Purpose,
    card: ModelCard,
    dataset: DatasetCard,
    panels: Sequence[Panel],
    *,
    protocol: str,
    preset: Preset,
    overrides: Overrides,
    metric: str | None,
) -> Place:
    """A sweep's place, its purpose written into the settings where the user has not decided otherwise.

    A figure trains every tick for the same number of epochs: no early stop. A search validates after
    every epoch, for ASHA to see, and picks epochs by the metric that it maximises; patience is the same
    number of epochs as before.

    Raises:
        UserError: for an axis of a model that this one does not stand on.
    """
    bare = Place(card, dataset, protocol, preset, overrides, tuple(panels))
    plain = bare.cell({}, 1)
    known = {card.name, *(stage.model.name for stage in stages(plain))}
    for panel in panels:
        for axis in panel:
            _check_owner(axis.label, axis.owner, card.name, known, purpose)
    asked, settings = overrides.get(card.name, {}), plain.settings
    added: dict[str, Any] = {"stopping_step": 0}
    if purpose == "tune":
        patience = settings.stopping_step * max(1, settings.eval_step)
        added = {"eval_step": 1, "stopping_step": patience, "valid_metric": metric or settings.valid_metric}
    swept = {axis.name for panel in panels for axis in panel if axis.owner == card.name}
    added = {key: value for key, value in added.items() if key not in asked and key not in swept}
    if metric and purpose == "tune":
        added["valid_metric"] = metric
    merged = {**overrides, card.name: {**asked, **added}}
    made = Place(card, dataset, protocol, preset, merged, tuple(panels))
    if made.cell({}, 1).settings.eval_step == 0:
        raise UserError(f"{card.name}.eval_step=0: a sweep reads validations; set eval_step=1")
    return made


def _check_owner(label: str, owner: str, model: str, known: set[str], purpose: Purpose) -> None:
    if owner not in known:
        raise UserError(f"--axis {label}: {model} does not stand on {owner}")
    if owner != model and purpose == "tune":
        raise UserError(
            f"--axis {label}: training a stage opens the test part for it; search {owner} itself, "
            f"--model={owner} --for tune"
        )


def grid(panels: Sequence[Panel]) -> list[Point]:
    """Points of a figure, panel after panel, the same point once."""
    found = [point for panel in panels for point in points(panel)]
    return [point for place, point in enumerate(found) if point not in found[:place]]


def check_measured(asked: Sequence[str], protocol: str) -> None:
    """Refuse metrics that no run under a protocol has.

    Raises:
        UserError: naming those that there are.
    """
    for name in check_metrics(asked):
        if name not in (known := measured(protocol)):
            raise UserError(f"--metric {name}: protocol {protocol} measures {', '.join(known)}")


def check_metrics(asked: Sequence[str]) -> list[str]:
    """Metrics by their proper names.

    Raises:
        UserError: for one that validations do not measure, with the nearest that they do.
    """
    for name in asked:
        if name.lower() not in VALID_METRICS:
            raise unknown("metric", name, VALID_METRICS)
    return [name.lower() for name in asked]
