"""Run one cell: provide what it stands on, train, judge, store."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_llmgraph.base.files import new_file
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.data.prepare import Prepared
from recbole_llmgraph.host.config import has_hold_out, make_config, recbole_values
from recbole_llmgraph.host.dataset import Split, load_split
from recbole_llmgraph.host.evaluation import Judge, Judgement
from recbole_llmgraph.host.models import config_values
from recbole_llmgraph.model.catalogue import model_card
from recbole_llmgraph.store.epochs import EPOCHS, read_epochs
from recbole_llmgraph.store.record import RunRecord
from recbole_llmgraph.suite.cell import Cell, resolve_cell, selection_mask, variant_name
from recbole_llmgraph.suite.facts import keep_facts
from recbole_llmgraph.suite.house import House, dataset_fingerprint
from recbole_llmgraph.suite.leave import CANDIDATES, TABLE_FILE, keep, rating_rows, target_rows
from recbole_llmgraph.suite.measure import code_version, reset_peak_memory
from recbole_llmgraph.suite.provide import Provided, Side, identify, provide, with_paths
from recbole_llmgraph.suite.row import (
    Fitted,
    Opened,
    Sitting,
    headline,
    history_of,
    judged_again,
    record_of,
)
from recbole_llmgraph.train.checkpoint import CHECKPOINT, load_weights, save_weights
from recbole_llmgraph.train.randomness import epoch_seed, seed_everything
from recbole_llmgraph.train.trainer import Trainer

#: Kept beside a run in `--store`, never published.
WEIGHTS_FILE = "weights.safetensors"
#: A model without settings of its own, by which a split is loaded that belongs to no run.
PLAIN = "Pop"
#: Rows of the log of epochs.
History = Sequence[Mapping[str, Any]]


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
        valid = sitting.judge(sitting.model, "valid")
        return Fitted(**vars(sitting), valid=valid, ended=time.perf_counter())

    def _sit(self, cell: Cell, key: str, work: Path, until: int = 0) -> Sitting:
        """Train a cell on what its split calls training; `until` as the trainer reads it."""
        given = self.provide(cell)
        say(f"{cell.label}: training ({key})")
        opened = self._open(cell, given, work)
        settings = with_paths(cell, given).settings
        trainer = Trainer(
            opened.model,
            opened.split,
            settings,
            folder=work,
            seed=cell.seed,
            validate=lambda m: opened.judge(m, "valid").metrics[selection_mask(cell)][settings.valid_metric],
            on_epoch=self.on_epoch,
            until=until,
        )
        if self.on_start:
            self.on_start()
        return Sitting(**vars(opened), progress=trainer.fit())

    def _open(self, cell: Cell, given: Provided, work: Path) -> Opened:
        """A cell's split, its untrained model and who judges it."""
        started = datetime.now(UTC)
        clock = time.perf_counter()
        reset_peak_memory()
        settings = with_paths(cell, given).settings
        ready = self.house.ready(cell.dataset)
        split = load_split(make_cell_config(cell, settings, ready, self.house.device))
        judge = Judge(split, accelerate=settings.accelerate)
        return Opened(given, split, make_model(cell, split), judge, work, started, clock)

    def _train(self, cell: Cell, key: str) -> RunRecord:
        """Train a cell, judge it on the test part and store it.

        Without a validation part of its own, it is trained on everything for as many epochs as were best
        without the hold-out; where the settings validate never, for all epochs. What another run trained
        already is not trained again.
        """
        if (trained := self._trained(cell, key)) is not None:
            return self._judge_again(cell, key, trained)
        sitting: Sitting
        fitted: Fitted | None = None
        if not has_hold_out(cell.protocol):
            sitting = fitted = self.fit(cell, key)
        else:
            fitted = self.fit(cell, key) if cell.settings.eval_step else None
            work = self.house.work(cell.dataset.name, cell.model.name, key)
            sitting = self._sit(cell, key, work, until=fitted.progress.best_epoch if fitted else 0)
        test = sitting.judge(sitting.model, "test", "testing")
        record = record_of(cell, key, sitting, fitted, test)
        self._store(cell, record, sitting, history_of(sitting, fitted), test)
        if fitted is not None and fitted is not sitting:  # as a stage, the same training would come again
            keep(self.house.artifacts, cell.model.name, self.key(cell.selecting), fitted.split, fitted.model)
        return record

    def _trained(self, cell: Cell, key: str) -> RunRecord | None:
        """The run whose weights are this cell's, made now; None where training has begun or weights lack."""
        other = cell.trained_as
        begun = self.house.work(cell.dataset.name, cell.model.name, key).rglob(CHECKPOINT)
        if other == cell or any(begun):
            return None
        record = self.run(other)
        return record if self._weights(record).exists() else None

    def _weights(self, record: RunRecord) -> Path:
        return self.house.runs.folder(record.dataset, record.model, record.key) / WEIGHTS_FILE

    def _judge_again(self, cell: Cell, key: str, trained: RunRecord) -> RunRecord:
        """Judge a cell on the test part with the weights of the run that was trained for it, and store it."""
        given, weights = self.provide(cell), self._weights(trained)
        say(f"{cell.label}: trained already ({trained.key}), judging ({key})")
        opened = self._open(cell, given, self.house.work(cell.dataset.name, cell.model.name, key))
        load_weights(weights, opened.model)
        test = opened.judge(opened.model.eval(), "test", "testing")
        record = judged_again(cell, key, trained, opened, test)
        self._store(cell, record, opened, read_epochs(weights.parent), test)
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
        self, cell: Cell, record: RunRecord, opened: Opened, history: History, test: Judgement
    ) -> None:
        """Keep a judged cell and what it leaves to later ones; its work folder goes."""
        split, work = opened.split, opened.work
        work.mkdir(parents=True, exist_ok=True)
        facts = keep_facts(self.house, self.house.ready(cell.dataset), split, test.users, test.items, work)
        log = work / EPOCHS
        with new_file(log) as temporary:
            pd.DataFrame(history).to_csv(temporary, index=False)
        tokens = np.array(split.item_tokens())
        topk = pd.DataFrame(
            {
                f"items|{mask}": [" ".join(tokens[row[row > 0]]) for row in items]
                for mask, items in test.items.items()
            }
        )
        users = split.dataset.field2id_token[split.dataset.uid_field].astype(str)
        topk.insert(0, "user", users[test.users])
        weights = work / WEIGHTS_FILE
        save_weights(weights, opened.model)
        folder = self.house.runs.write(
            record, test.per_user, topk=topk, folder_files=[log, weights, facts], replace=self.always
        )
        keep(self.house.artifacts, cell.model.name, record.key, split, opened.model)
        shutil.rmtree(work)
        say(f"{cell.label}: {headline(record)}  -> {folder}")


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
