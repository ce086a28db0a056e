"""Run one cell: provide what it stands on, train, judge, store."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from recbole_llmgraph.base.files import new_file
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.data.prepare import Prepared
from recbole_llmgraph.host.config import has_hold_out, make_config, recbole_values
from recbole_llmgraph.host.dataset import Split, load_split
from recbole_llmgraph.host.evaluation import Judge, Judgement, Mask
from recbole_llmgraph.host.models import config_values
from recbole_llmgraph.model.catalogue import model_card
from recbole_llmgraph.store.epochs import EPOCHS, SELECTING
from recbole_llmgraph.store.record import Code, Cost, Parameters, RunRecord
from recbole_llmgraph.suite.cell import Cell, resolve_cell
from recbole_llmgraph.suite.facts import keep_facts
from recbole_llmgraph.suite.house import House, dataset_fingerprint
from recbole_llmgraph.suite.leave import CANDIDATES, TABLE_FILE, keep, rating_rows, target_rows
from recbole_llmgraph.suite.measure import (
    code_version,
    environment,
    parameter_counts,
    peak_memory_mb,
    reset_peak_memory,
)
from recbole_llmgraph.suite.provide import Provided, Side, identify, provide, with_paths
from recbole_llmgraph.train.checkpoint import Progress, save_weights
from recbole_llmgraph.train.randomness import epoch_seed, seed_everything
from recbole_llmgraph.train.trainer import Trainer

#: Kept beside a run in `--store`, never published.
WEIGHTS_FILE = "weights.safetensors"
#: A model without settings of its own, by which a split is loaded that belongs to no run.
PLAIN = "Pop"


@dataclass
class Sitting:
    """A trained cell that nobody has judged.

    Attributes:
        given: what it stands on.
        split, model, judge: the data, the model with the kept weights, and who judges it.
        progress: how the training went.
        work: folder of the checkpoint.
        started, clock: when this sitting began, as a date and as `time.perf_counter()`.
    """

    given: Provided
    split: Split
    model: Any
    judge: Judge
    progress: Progress
    work: Path
    started: datetime
    clock: float


@dataclass
class Fitted(Sitting):
    """A trained cell that nobody has judged on the test part; `valid` is what validation says."""

    valid: Judgement


@dataclass
class Runner:
    """Runs cells in one house.

    Attributes:
        house: folders and device.
        always: train again what is finished already.
        on_start: called when everything is loaded and training begins (sweeps start their clock there).
        on_epoch: called after every training epoch (sweeps report there).
    """

    house: House
    always: bool = False
    on_epoch: Callable[[dict[str, Any]], None] | None = None
    on_start: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        """Note the code's version now: the checkout may move on while a long cell trains."""
        code_version()

    def key(self, cell: Cell) -> str:
        """Run key of a cell; reads the prepared dataset, trains nothing."""
        ready = self.house.ready(cell.dataset)
        stands_on = identify(cell, ready, self.key)
        return cell.key(dataset_fingerprint(ready, cell.model_class, cell.protocol), stands_on)

    def run(self, cell: Cell) -> RunRecord:
        """Result of a cell, from the store when it is finished there."""
        key = self.key(cell)
        found = self.house.find(cell.dataset.name, cell.model.name, key)
        if found and not self.always:
            say(f"{cell.label}: finished already ({key})")
            return self.house.label(found, variant_name(cell))
        with self.house.alone(cell.dataset.name, cell.model.name, key):
            if self.always:
                return self._train(cell, key)
            found = self.house.find(cell.dataset.name, cell.model.name, key)  # by another process, meanwhile
            return found or self._train(cell, key)

    def table(self, cell: Cell, side: Side) -> Path:
        """File of a stage's item or user vectors; the stage is trained once, then kept."""
        return self._left(cell, f"{side}_table") / TABLE_FILE

    def candidates(self, cell: Cell) -> Path:
        """Folder of a stage's best unseen items of every user, and of the ratings that it was trained on."""
        return self._left(cell, CANDIDATES)

    def _left(self, cell: Cell, kind: str) -> Path:
        """Folder of what a stage leaves; the stage is trained for it where it is not there."""
        key = self.key(cell)
        folder = self.left(cell, kind)
        if folder is None:
            with self.house.alone(cell.dataset.name, cell.model.name, key):
                if self.left(cell, kind) is None:
                    self._train_stage(cell, key)
            folder = self.left(cell, kind)
        if folder is None:
            raise RuntimeError(f"{cell.model.name} trained but leaves no {kind}")
        return folder

    def left(self, cell: Cell, kind: str) -> Path | None:
        """The same folder, where the stage is trained already."""
        return self.house.artifacts.find(kind, {"model": cell.model.name, "run": self.key(cell)})

    def provide(self, cell: Cell) -> Provided:
        """Everything the cell stands on, made now where it is missing."""
        ready = self.house.ready(cell.dataset)
        making = (self.table, self.candidates, self.training_rows, self.hold_out_rows)
        return provide(cell, self.house, ready, self.key, *making)

    def training_rows(self, cell: Cell) -> pd.DataFrame:
        """Columns `user`, `item` (tokens) and `rating` of what a cell may train on; NaN without ratings."""
        return rating_rows(self._plain_split(cell))

    def hold_out_rows(self, cell: Cell) -> pd.DataFrame:
        """Columns `user` and `item` (tokens) of what validates a cell."""
        return target_rows(self._plain_split(cell))

    def _plain_split(self, cell: Cell) -> Split:
        """A cell's split, by a model that stands on nothing."""
        plain = resolve_cell(
            model_card(PLAIN),
            cell.dataset,
            protocol=cell.protocol,
            preset="quick",
            seed=cell.seed,
            overrides={},
        )
        plain = replace(plain, held_out=cell.held_out)
        ready = self.house.ready(cell.dataset)
        return load_split(make_cell_config(plain, plain.settings, ready, self.house.device))

    def fit(self, cell: Cell, key: str) -> Fitted:
        """Train a cell and judge it on the validation part alone, resuming what an earlier sitting left.

        Under `rate` and `sign` it is trained without the hold-out, which validates. Its checkpoint stays in
        the cell's work folder: `run` goes on from there, and so does another sitting.
        """
        work = self.house.work(cell.dataset.name, cell.model.name, key)
        if cell.selecting == cell:
            sitting = self._sit(cell, key, work)
        else:
            sitting = self._sit(cell.selecting, key, work / "hold-out")
        return Fitted(**vars(sitting), valid=sitting.judge(sitting.model, "valid"))

    def _sit(self, cell: Cell, key: str, work: Path, until: int = 0) -> Sitting:
        """Train a cell on what its split calls training; `until` as the trainer reads it."""
        ready, given = self.house.ready(cell.dataset), self.provide(cell)
        say(f"{cell.label}: training ({key})")
        started = datetime.now(UTC)
        clock = time.perf_counter()
        reset_peak_memory()
        settings = with_paths(cell, given).settings
        split = load_split(make_cell_config(cell, settings, ready, self.house.device))
        model = make_model(cell, split)
        judge = Judge(split, accelerate=settings.accelerate)
        trainer = Trainer(
            model,
            split,
            settings,
            folder=work,
            seed=cell.seed,
            validate=lambda m: judge(m, "valid").metrics[selection_mask(cell)][settings.valid_metric],
            on_epoch=self.on_epoch,
            until=until,
        )
        if self.on_start:
            self.on_start()
        return Sitting(given, split, model, judge, trainer.fit(), work, started, clock)

    def _train(self, cell: Cell, key: str) -> RunRecord:
        """Train a cell, judge it on the test part and store it.

        Without a validation part of its own, it is trained on everything for as many epochs as were best
        without the hold-out; where the settings validate never, for all epochs.
        """
        sitting: Sitting
        fitted: Fitted | None = None
        if not has_hold_out(cell.protocol):
            sitting = fitted = self.fit(cell, key)
        else:
            fitted = self.fit(cell, key) if cell.settings.eval_step else None
            work = self.house.work(cell.dataset.name, cell.model.name, key)
            sitting = self._sit(cell, key, work, until=fitted.progress.best_epoch if fitted else 0)
        test = sitting.judge(sitting.model, "test", "testing")
        record = _record(cell, key, sitting, fitted, test)
        ready = self.house.ready(cell.dataset)
        facts = keep_facts(self.house, ready, sitting.split, test.users, test.items, sitting.work)
        folder = self._store(record, sitting, fitted, test, facts)
        keep(self.house.artifacts, cell.model.name, key, sitting.split, sitting.model)
        if fitted is not None and fitted is not sitting:  # as a stage, the same training would come again
            keep(self.house.artifacts, cell.model.name, self.key(cell.selecting), fitted.split, fitted.model)
        shutil.rmtree(sitting.work)
        say(f"{cell.label}: {_headline(record)}  -> {folder}")
        return record

    def _train_stage(self, cell: Cell, key: str) -> None:
        """Train a cell for what it leaves to later ones."""
        if not cell.held_out:
            self._train(cell, key)
            return
        fitted = self.fit(cell, key)
        keep(self.house.artifacts, cell.model.name, key, fitted.split, fitted.model)
        shutil.rmtree(fitted.work)

    def _store(
        self, record: RunRecord, sitting: Sitting, fitted: Fitted | None, test: Judgement, facts: Path
    ) -> Path:
        split, log = sitting.split, sitting.work / EPOCHS
        with new_file(log) as temporary:
            pd.DataFrame(_history(sitting, fitted)).to_csv(temporary, index=False)
        tokens = np.array(split.item_tokens())
        topk = pd.DataFrame(
            {
                f"items|{mask}": [" ".join(tokens[row[row > 0]]) for row in items]
                for mask, items in test.items.items()
            }
        )
        users = split.dataset.field2id_token[split.dataset.uid_field].astype(str)
        topk.insert(0, "user", users[test.users])
        weights = sitting.work / WEIGHTS_FILE
        save_weights(weights, sitting.model)
        kept = [log, weights, facts]
        return self.house.runs.write(record, test.per_user, topk=topk, folder_files=kept, replace=self.always)


def make_cell_config(cell: Cell, settings: Any, ready: Prepared, device: str) -> Any:
    """RecBole's config of a cell."""
    of_model = getattr(cell.model_class, "recbole_config", config_values)
    values = recbole_values(
        cell.model.family,
        of_model(settings),
        folder=ready.folder,
        protocol=cell.protocol,
        seed=cell.seed,
        held_out=cell.held_out,
    )
    return make_config(cell.model_class, cell.dataset.name, values, device=device)


def make_model(cell: Cell, split: Split) -> Any:
    """The model with initial weights that depend on the cell's seed alone."""
    seed_everything(epoch_seed(cell.seed, "initial weights", 0))
    return cell.model_class(split.config, split.dataset).to(split.config["device"])


def selection_mask(cell: Cell) -> Mask:
    """The mask under which validation picks epochs: the dataset's own."""
    return cell.dataset.mask_default


def _history(sitting: Sitting, fitted: Fitted | None) -> list[dict[str, Any]]:
    """The log of epochs; those that selected on a hold-out come first, under their own phase."""
    told = sitting.progress.history
    if fitted is None or fitted.progress is sitting.progress:
        return told
    return [{**entry, "phase": f"{SELECTING} {entry['phase']}"} for entry in fitted.progress.history] + told


def _record(cell: Cell, key: str, sitting: Sitting, fitted: Fitted | None, test: Judgement) -> RunRecord:
    """Everything a row needs to be believed."""
    given, split, model, progress = sitting.given, sitting.split, sitting.model, sitting.progress
    metrics: Any = (
        {"test": test.metrics} if fitted is None else {"valid": fitted.valid.metrics, "test": test.metrics}
    )
    settings = {k: v for k, v in cell.settings.model_dump().items() if k not in given.paths}
    best = fitted.progress.best_epoch if fitted else 0
    return RunRecord(
        key=key,
        model=cell.model.name,
        variant=variant_name(cell),
        dataset=cell.dataset.name,
        protocol=cell.protocol,
        preset=cell.preset,
        seed=cell.seed,
        settings=settings,
        results_version=cell.model.results_version,
        split_fingerprint=split.fingerprint,
        test_users=len(test.users),
        candidates=split.n_items - 1,
        single_target=bool(len(test.users) == len(split.test._dataset)),
        backbone=getattr(model, "backbone_name", None),
        text_encoder=given.text_encoder,
        mask=selection_mask(cell),
        metrics=metrics,
        best_epoch=best or progress.epochs_run,
        epochs_run=progress.epochs_run,
        budget={"epochs": cell.settings.epochs, "stopping_step": cell.settings.stopping_step},
        parameters=Parameters(**parameter_counts(model)),
        cost=_cost(sitting, fitted, test),
        environment=environment(),
        code=Code(**code_version()),
        notes=[*given.notes, *getattr(model, "notes", [])],
        stages=given.stages,
        started=(fitted or sitting).started.isoformat(timespec="seconds"),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _cost(sitting: Sitting, fitted: Fitted | None, test: Judgement) -> Cost:
    """What a run cost, selecting included."""
    first = fitted or sitting
    cost = cost_of(sitting.progress, test, time.perf_counter() - first.clock)
    if sitting.given.oracle:
        cost = cost.model_copy(update=sitting.given.oracle.spent)
    if first.progress is sitting.progress:
        return cost
    trained = first.progress.train_seconds + sitting.progress.train_seconds
    total = max(cost.seconds_total or 0.0, trained)
    return cost.model_copy(update={"seconds_to_best": trained, "seconds_total": total})


def cost_of(progress: Progress, test: Judgement, seconds: float) -> Cost:
    """What a run cost; of a resumed run, the longer of its training time and its last sitting."""
    return Cost(
        seconds_per_epoch=progress.train_seconds / max(1, progress.epochs_run),
        seconds_to_best=progress.seconds_to_best or progress.train_seconds,
        seconds_total=max(seconds, progress.train_seconds),
        eval_users_per_second=test.users_per_second,
        peak_memory_mb=peak_memory_mb(),
        threads=torch.get_num_threads(),
    )


def variant_name(cell: Cell) -> str:
    """How a cell differs from its preset, as `tau=0.3`; the preset's own value, typed, is no change.

    Values stand as they were read, so that one setting has one name however it was typed.
    """
    preset = type(cell.settings).read(
        cell.model.preset_settings(cell.dataset.name, cell.preset), cell.model.name
    )
    own, now = preset.model_dump(), cell.settings.model_dump()
    asked = cell.overrides.get(cell.model.name, {})
    return " ".join(f"{key}={now[key]}" for key in sorted(asked) if now[key] != own[key])


def _headline(record: RunRecord) -> str:
    found = record.metrics["test"][record.mask]
    return f"test R@20 {found['recall@20']:.4f}  N@20 {found['ndcg@20']:.4f} (mask {record.mask})"
