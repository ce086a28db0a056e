"""Where a command keeps things: prepared data, artifacts, runs, and the machine's part in it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recbole_llmgraph.artifact.store import ArtifactStore
from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import RELEASED_TEST
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.data.catalogue import DatasetCard, Source
from recbole_llmgraph.data.prepare import Prepared, prepare, prepared
from recbole_llmgraph.host.config import tests_released
from recbole_llmgraph.store.record import RunRecord
from recbole_llmgraph.store.runs import RunStore, read_run, rename_variant


@dataclass(frozen=True)
class House:
    """Folders of one command.

    Attributes:
        store: `--store`, where runs, artifacts and unfinished work lie.
        data: folder of prepared atomic files.
        source: `--source`, a folder of raw files.
        committed: finished runs that came with the checkout (`reports/runs`).
        device: `cpu`, `cuda` or `cuda:N`.
        max_cost: `--max-cost`, US dollars that the replies in the artifacts' cache may have cost together.
    """

    store: Path
    data: Path
    source: Path | None = None
    committed: Path | None = None
    device: str = "cpu"
    max_cost: float | None = None

    @property
    def runs(self) -> RunStore:
        """Finished runs of this store."""
        return RunStore(self.store)

    @property
    def artifacts(self) -> ArtifactStore:
        """Intermediate results, shared by all runs."""
        return ArtifactStore(Path(os.environ.get("RECBOLE_LLMGRAPH_ARTIFACTS") or self.store / "artifacts"))

    def absolute(self) -> "House":
        """The same folders by names that mean them in every process."""
        source, committed = (path and path.resolve() for path in (self.source, self.committed))
        return replace(
            self, store=self.store.resolve(), data=self.data.resolve(), source=source, committed=committed
        )

    def work(self, dataset: str, model: str, key: str) -> Path:
        """Folder of an unfinished run: its checkpoint and log."""
        return self.store / "work" / dataset / model / key

    @contextmanager
    def alone(self, dataset: str, model: str, key: str) -> Iterator[None]:
        """Hold a run for this process; wait, and say so, while another trains it (a shared stage, say).

        The system drops the lock with the process that holds it, however that ended.
        """
        work = self.work(dataset, model, key)
        work.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(work.parent / f".{key}.lock")
        try:
            lock.acquire(timeout=0.1)
        except Timeout:
            say(f"{model} on {dataset}: another process is training it ({key}), waiting")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def ready(self, card: DatasetCard) -> Prepared:
        """Atomic files of a dataset, prepared now when they are not there yet."""
        found = prepared(card, self.data)
        if found is None:
            say(f"{card.name}: preparing")
            found = prepare(card, self.data, source=self.source)
        return found

    def find(self, dataset: str, model: str, key: str) -> RunRecord | None:
        """A finished run, from this store or from those committed with the checkout."""
        stores = [self.runs] + ([RunStore(self.committed)] if self.committed else [])
        for store in stores:
            folder = store.find(dataset, model, key)
            if folder is not None:
                return read_run(folder)
        return None

    def label(self, record: RunRecord, variant: str) -> RunRecord:
        """A finished run under the name that its settings have today: a preset may have moved since.

        Runs committed with the checkout keep theirs until they are published again.
        """
        folder = self.runs.find(record.dataset, record.model, record.key)
        if folder is None or record.variant == variant:
            return record
        return rename_variant(folder, variant)


def default_data_folder() -> Path:
    """`$RECBOLE_LLMGRAPH_DATA`, else `data/` in the current folder."""
    return Path(os.environ.get("RECBOLE_LLMGRAPH_DATA") or "data")


def dataset_fingerprint(ready: Prepared, model_class: Any, protocol: str) -> str:
    """Hash of the prepared files that a run reads: interactions, items if the model does, a released test.

    Raises:
        UserError: as `released_test`.
    """
    names = [f"{ready.card.name}.inter"]
    if released_test(ready, protocol):
        names.append(RELEASED_TEST)
    if getattr(model_class, "reads_item_file", False):
        names.append(f"{ready.card.name}.item")
    return "+".join(ready.manifest["outputs"][name]["sha256"][:16] for name in names)


def released_test(ready: Prepared, protocol: str) -> Source | None:
    """The file whose rows a protocol tests because a paper released them; None where nobody did.

    Raises:
        UserError: when there is one, and it was not at hand when the dataset was prepared.
    """
    released = ready.card.released_test if tests_released(protocol) else None
    if released and RELEASED_TEST not in ready.manifest["outputs"]:
        name = ready.card.name
        raise UserError(
            f"{name}: protocol {protocol} tests a released part, {released.file} ({released.note}): "
            f"put it into DIR/{name}/ and type prepare.py --dataset {name} --source DIR --force; "
            f"or draw a part here: --protocol {protocol}@1"
        )
    return released
