"""A sweep from its plan to the files of its report."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llmgraph.base.progress import say
from recbole_llmgraph.data.catalogue import DatasetCard
from recbole_llmgraph.model.catalogue import ModelCard
from recbole_llmgraph.report.sweep_page import sweep_text, write_sweep
from recbole_llmgraph.store.sweeps import SWEEP, Chosen, Halving, Sweep, read_sweep
from recbole_llmgraph.store.trials import Trial
from recbole_llmgraph.suite.cell import choose_protocol
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.many import house_of, run_cells
from recbole_llmgraph.suite.options import read_sets, seeds
from recbole_llmgraph.suite.provide import refuse_strangers
from recbole_llmgraph.suite.ray_pool import Pool, opened, read_pool
from recbole_llmgraph.suite.sweep.axes import Panel, points, read_panels
from recbole_llmgraph.suite.sweep.figure import run_figure
from recbole_llmgraph.suite.sweep.importance import importance
from recbole_llmgraph.suite.sweep.plan import Place, check_measured, check_metrics, grid, place
from recbole_llmgraph.suite.sweep.tune import Search, choose

#: Metrics that a figure shows when nobody names others: those of HeLLM's figures.
METRICS = ("recall@20", "ndcg@20")
#: Which points are tried when nobody says so.
DEFAULT_SEARCH = {"figure": "grid", "tune": "optuna"}


@dataclass(frozen=True)
class Request:
    """One model's sweep, planned and checked."""

    options: argparse.Namespace
    command: str
    card: ModelCard
    places: dict[str, Place]
    panels: list[Panel]
    seeds: list[int]
    metrics: list[str]

    @property
    def axes(self) -> list[str]:
        """Labels of all axes, each once."""
        return list(dict.fromkeys(axis.label for panel in self.panels for axis in panel))

    def lines(self) -> Iterator[str]:
        """What will run."""
        told = ", ".join(axis.told() for panel in self.panels for axis in panel)
        for name, planned in self.places.items():
            settings = planned.cell({}, self.seeds[0]).settings
            if self.options.purpose == "figure":
                count = f"{len(grid(self.panels))} ticks x {len(self.seeds)} seeds"
            else:
                count = f"{self.how} search"
            yield f"{self.card.name} on {name}: {told}; {count}, {settings.epochs} epochs each"

    @property
    def how(self) -> Any:
        """Which search."""
        return self.options.search or DEFAULT_SEARCH[self.options.purpose]

    def run(self) -> Iterator[str]:
        """Train what is missing, write the report's files; yields the report as text."""
        house, pool = house_of(self.options).absolute(), read_pool(self.options)
        if self.options.purpose == "figure":
            yield self._write(self._figure(house, pool), list(self.places))
            return
        for name, planned in self.places.items():
            yield self._write(self._tune(house, pool, planned), [name])

    def _write(self, sweep: Sweep, datasets: Sequence[str]) -> str:
        cards = [self.places[name].dataset for name in datasets]
        name = self.options.name or sweep_name(self.card, cards, self.axes, self.options.purpose)
        named = sweep.model_copy(update={"name": name})
        folder = Path(self.options.out) / name
        named.write(folder)
        say("written: " + ", ".join(str(path) for path in write_sweep(named, folder)))
        return sweep_text(named)

    def _figure(self, house: House, pool: Pool) -> Sweep:
        trials = run_figure(
            house,
            pool,
            self.places,
            self.seeds,
            rerun=self.options.rerun,
            minutes=self.options.max_minutes,
        )
        return self._sweep(trials, list(self.places), [[axis.label for axis in p] for p in self.panels])

    def _tune(self, house: House, pool: Pool, planned: Place) -> Sweep:
        """Search, choose on validation, then open the test part for the choice alone."""
        search = self._search(house, planned)
        closed = search.journal.root / "closed"
        if self.options.rerun == "always":
            search.forget()
        if self.options.rerun == "never" and not (closed / SWEEP).is_file():
            return self._searched(search, [trial for trial in search.journal if trial.final])
        if not (closed / SWEEP).is_file():
            with opened(pool):
                trials = search.run(pool, self.options.max_minutes)
                best = choose(trials)
                chosen = Chosen(point=best.point, valid=best.score or 0.0)
                self._searched(search, trials, chosen).write(closed)  # no later trial can change the choice
                return self._test(house, pool, search, closed)
        sweep = read_sweep(closed)
        if sweep.chosen is not None and sweep.chosen.keys:
            say(f"{search.name}: the search is over and its choice tested; 0 trials to run")
            return sweep.model_copy(update={"command": self.command})
        return self._test(house, pool, search, closed)

    def _test(self, house: House, pool: Pool, search: Search, closed: Path) -> Sweep:
        """The one look at the test part."""
        sweep = read_sweep(closed)
        assert sweep.chosen is not None
        cells = [search.place.cell(sweep.chosen.point, seed) for seed in self.seeds]
        records = run_cells(house, cells, pool)
        means = [record.metrics["test"][record.mask] for record in records]
        test = {name: float(np.mean([mean[name] for mean in means])) for name in means[0]}
        chosen = sweep.chosen.model_copy(update={"keys": [r.key for r in records], "test": test})
        sweep = sweep.model_copy(update={"chosen": chosen})
        sweep.write(closed)
        search.tidy()
        return sweep

    def _search(self, house: House, planned: Place) -> Search:
        epochs = planned.cell({}, self.seeds[0]).settings.epochs
        grace = self.options.grace or max(1, epochs // 9)
        halving = Halving(grace=grace, factor=self.options.factor)
        return Search(house, planned, self.how, self.options.trials, self.seeds[0], halving)

    def _searched(self, search: Search, trials: list[Trial], chosen: Chosen | None = None) -> Sweep:
        labels = [axis.label for axis in search.axes]
        sweep = self._sweep(trials, [search.place.dataset.name], [labels])
        settings = search.place.cell({}, search.seed).settings
        return sweep.model_copy(
            update={
                "chosen": chosen,
                "halving": search.halving,
                "importance": importance(trials, search.axes),
                "metrics": [settings.valid_metric],
            }
        )

    def _sweep(self, trials: list[Trial], datasets: list[str], panels: list[list[str]]) -> Sweep:
        return Sweep(
            name="sweep",
            purpose=self.options.purpose,
            search=self.how,
            model=self.card.name,
            datasets=datasets,
            seeds=self.seeds,
            panels=panels,
            ticks={axis.label: list(axis.ticks) for panel in self.panels for axis in panel},
            base={name: self.places[name].base for name in datasets},
            settings={name: self.places[name].settings for name in datasets},
            metrics=self.metrics,
            minutes=self.options.max_minutes,
            command=self.command,
            trials=trials,
        )


def plan(
    options: argparse.Namespace, card: ModelCard, datasets: Sequence[DatasetCard], command: str
) -> Request:
    """A model's sweep with every name and value checked; nothing is prepared or trained.

    Raises:
        UserError: for what the user can mend.
    """
    metrics = check_metrics(options.metric)
    panels = read_panels(options.axis, card)
    overrides = read_sets(options.sets, [card])
    places = {
        dataset.name: place(
            options.purpose,
            card,
            dataset,
            panels,
            protocol=choose_protocol([card], dataset, options.protocol),
            preset=options.preset,
            overrides=overrides,
            metric=metrics[0] if metrics else None,
        )
        for dataset in datasets
    }
    how = options.search or DEFAULT_SEARCH[options.purpose]
    for planned in places.values():
        for panel in panels:
            for point in points(panel) if how == "grid" else []:
                planned.cell(point, 1)
    return Request(options, command, card, places, panels, seeds(options.seeds), metrics or list(METRICS))


def check(options: argparse.Namespace, planned: Sequence[Request]) -> None:
    """What `--metric` and `--set` name, against all that is planned.

    Raises:
        UserError: for a metric that is not measured, or a setting of a model that nothing stands on.
    """
    cells = [
        place.cell(point, 1)
        for request in planned
        for place in request.places.values()
        for point in [{}, *(grid(request.panels) if request.how == "grid" else [])]
    ]
    for cell in cells:
        check_measured(options.metric, cell.protocol)
    refuse_strangers(read_sets(options.sets, [request.card for request in planned]), cells)


def sweep_name(card: ModelCard, datasets: Sequence[DatasetCard], axes: Sequence[str], purpose: str) -> str:
    """Folder of a sweep: `HeLLMPre-beauty-tau-knn_k`, `…-tune` for a search."""
    told = "-".join(axes) if len(axes) <= 3 else f"{len(axes)}-axes"
    return "-".join([card.name, *(d.name for d in datasets), told, *(["tune"] if purpose == "tune" else [])])
