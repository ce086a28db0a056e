"""Folders of finished runs: `<root>/<dataset>/<model>/<key>/`.

Each holds `run.json`, `per_user.parquet` and, outside the committed reports, `topk.parquet` and `log.txt`.
A folder appears whole or not at all, under its key. Two stores merge by copying one over the other.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import new_file, new_folder, write_json
from recbole_llmgraph.base.hashing import hash_file
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.store.epochs import EPOCHS, epoch_seconds
from recbole_llmgraph.store.facts import ITEMS, SPLITS
from recbole_llmgraph.store.per_user import PerUser
from recbole_llmgraph.store.record import SCHEMA_VERSION, RunRecord

#: Where finished runs are committed, beside the project's reports.
PUBLISHED = Path("reports/runs")
#: Largest `per_user.parquet` that may be committed, in bytes.
PUBLISHED_LIMIT = 300_000
#: Folders of a store that hold no finished runs.
RESERVED = ("artifacts", "work", "trials", "sweeps")
RUN, PER_USER, TOPK = "run.json", "per_user.parquet", "topk.parquet"


class BrokenRunError(Exception):
    """Why a folder is no whole run."""


@dataclass(frozen=True)
class StoredRun:
    """A finished run and where it lies."""

    record: RunRecord
    folder: Path

    def per_user(self) -> PerUser:
        """Per-user test results; row = position of the user in the split."""
        return PerUser.read(self.folder / PER_USER)

    @property
    def seconds_per_epoch(self) -> float | None:
        """Of a typical epoch where the log of epochs is here, else as the record has it: of the mean one."""
        return epoch_seconds(self.folder) or self.record.cost.seconds_per_epoch


@dataclass(frozen=True)
class Problem:
    """A folder that was left out, or a run that two folders tell differently."""

    folder: Path
    name: str
    """`dataset/model/key`, without the store's own path."""
    why: str


@dataclass(frozen=True)
class StoredRuns:
    """All whole runs of one or more stores, one a key, and what was wrong with the others."""

    runs: list[StoredRun] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class RunStore:
    """A folder of finished runs."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def folder(self, dataset: str, model: str, key: str) -> Path:
        """Where a run lies once it is finished."""
        return self.root / folder_name(dataset) / folder_name(model) / key

    def find(self, dataset: str, model: str, key: str) -> Path | None:
        """Folder of a whole finished run; None when it is absent or broken."""
        folder = self.folder(dataset, model, key)
        return folder if is_whole(folder) else None

    def read(self, folder: Path) -> RunRecord:
        """Record of a run folder.

        Raises:
            UserError: naming the folder and what is wrong with it.
        """
        try:
            return read_run(folder)
        except BrokenRunError as error:
            raise UserError(f"{folder}: not a whole run ({error}); remove it and run again") from None

    def write(
        self,
        record: RunRecord,
        per_user: pd.DataFrame | PerUser,
        topk: pd.DataFrame | None = None,
        folder_files: Sequence[Path] = (),
        *,
        replace: bool = False,
    ) -> Path:
        """Keep a finished run; safe beside other processes writing other runs or this very one.

        Args:
            record: the run; `files` and `test_users` are filled in here.
            per_user: columns `metric@k|mask` or `rank|mask`, one row a test user in the split's order.
            topk: recommended items, any columns.
            folder_files: more files to copy in under their own names (a log, figures).
            replace: put this run in place of a whole one under the same key; by default that one stays.

        Returns:
            The run's folder.

        Raises:
            ValueError: when the per-user values and `metrics.test` tell different stories.
        """
        users = per_user if isinstance(per_user, PerUser) else PerUser.from_frame(per_user)
        _check_means(record, users)
        record = record.model_copy(update={"test_users": len(users)})
        folder = self.folder(record.dataset, record.model, record.key)
        if folder.exists() and (replace or not is_whole(folder)):
            _set_aside(folder)
        with new_folder(folder) as temporary:
            users.write(temporary / PER_USER)
            if topk is not None:
                topk.to_parquet(temporary / TOPK, compression="zstd", index=False)
            for path in folder_files:
                shutil.copyfile(path, temporary / path.name)
            write_record(record, temporary)
        _warn_if_other(record, folder)
        return folder


def folder_name(name: str) -> str:
    """A name as one safe path part; names that need no change keep their spelling."""
    return re.sub(r"[^\w.+@-]", "_", name).lstrip(".") or "_"


def write_record(record: RunRecord, folder: Path) -> None:
    """Write `run.json` with the hashes of the files that lie in `folder`, sealed by its own hash."""
    files = {path.name: hash_file(path) for path in sorted(folder.iterdir()) if path.name != RUN}
    sealed = record.model_copy(update={"files": files})
    write_json(folder / RUN, sealed.plain() | {"seal": sealed.seal()})


def add_file(folder: Path, file: Path) -> None:
    """Put one more file into a whole run folder and seal it anew; a reader meets it before or after, whole.

    Raises:
        BrokenRunError: when the folder is no whole run.
    """
    record = read_run(folder)
    with new_file(folder / file.name) as temporary:
        shutil.copyfile(file, temporary)
    sealed = record.model_copy(update={"files": record.files | {file.name: hash_file(file)}})
    write_json(folder / RUN, sealed.plain() | {"seal": sealed.seal()})


def rename_variant(folder: Path, variant: str) -> RunRecord:
    """Write another `variant` into a whole run folder and seal it anew; numbers and key stay.

    Raises:
        BrokenRunError: when the folder is no whole run.
    """
    sealed = read_run(folder).model_copy(update={"variant": variant})
    write_json(folder / RUN, sealed.plain() | {"seal": sealed.seal()})
    return sealed


def read_run(folder: Path) -> RunRecord:
    """Read and check one run folder.

    Files that were not copied along (top-k, log) may be absent; those present must match their hash.

    Raises:
        BrokenRunError: saying what is wrong.
    """
    try:
        data = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BrokenRunError(f"no {RUN}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenRunError(f"{RUN} is cut short or no JSON ({error})") from None
    record = _record_of(data)
    for name, digest in record.files.items():
        path = folder / name
        if not path.is_file() and name == PER_USER:
            raise BrokenRunError(f"no {PER_USER}")
        if path.is_file() and hash_file(path) != digest:
            raise BrokenRunError(f"{name} was changed or cut short after the run (its hash differs)")
    return record


def _record_of(data: object) -> RunRecord:
    """Record in the plain data of a `run.json` whose seal holds."""
    if not isinstance(data, dict):
        raise BrokenRunError(f"{RUN} is no mapping")
    if data.get("schema_version") != SCHEMA_VERSION:
        told = data.get("schema_version")
        raise BrokenRunError(f"schema_version {told!r}; this version reads {SCHEMA_VERSION}")
    seal = data.pop("seal", None)
    try:
        record = RunRecord.read(data, RUN)
    except (UserError, ValueError, RecursionError) as error:
        raise BrokenRunError(str(error)) from None
    if record.seal() != seal:
        raise BrokenRunError(f"{RUN} was changed by hand after the run (its seal does not hold)")
    if PER_USER not in record.files:
        raise BrokenRunError(f"{RUN} names no {PER_USER}")
    return record


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a whole run."""
    try:
        read_run(folder)
    except BrokenRunError:
        return False
    return True


def run_folders(root: Path) -> Iterator[Path]:
    """Folders of a store that should hold a run, sorted; hidden and reserved ones apart."""
    for path in sorted(Path(root).glob("*/*/*")):
        parts = path.relative_to(root).parts
        if path.is_dir() and parts[0] not in RESERVED and not any(part.startswith(".") for part in parts):
            yield path


def read_stores(roots: Iterable[Path]) -> StoredRuns:
    """Read every whole run of several stores; the same run in two of them counts once.

    Never fails on a broken folder: it is left out and named in `problems`. Runs under one key
    that tell different numbers are named too; the one finished first is kept. Of equal ones the
    one in the last root stands, so that pages link to runs that were committed.
    """
    found: dict[tuple[str, str, str], list[StoredRun]] = {}
    problems: list[Problem] = []
    for root in dict.fromkeys(Path(os.path.abspath(root)) for root in roots):
        for folder in run_folders(root):
            name = "/".join(folder.relative_to(root).parts)
            try:
                record = read_run(folder)
                _check_place(record, name)
            except BrokenRunError as error:
                problems.append(Problem(folder, name, f"left out: {error}"))
                continue
            key = (record.dataset, record.model, record.key)
            found.setdefault(key, []).append(StoredRun(record, folder))
    runs = []
    for _, twins in sorted(found.items()):
        kept = min(reversed(twins), key=lambda run: (run.record.finished, run.record.seal()))
        runs.append(kept)
        problems += [_conflict(kept, twin) for twin in twins if twin.record.metrics != kept.record.metrics]
    return StoredRuns(runs, sorted(problems, key=lambda problem: (problem.name, problem.why)))


def publish(run_folder: Path, reports_root: Path = PUBLISHED) -> Path:
    """Copy what may be committed of a run under `reports_root`: no top lists, no weights, no external id.

    That is `run.json`, `per_user.parquet`, `items.parquet`, the log of epochs and the facts of its split.
    What a run that was published before lacks is added.

    Raises:
        UserError: when the folder is no whole run or its per-user file is over 300 kB.
    """
    try:
        record = read_run(run_folder)
    except BrokenRunError as error:
        raise UserError(f"{run_folder}: not a whole run ({error}); run it again") from None
    size = (run_folder / PER_USER).stat().st_size
    if size > PUBLISHED_LIMIT:
        raise UserError(
            f"{run_folder / PER_USER}: {size:,} bytes; at most {PUBLISHED_LIMIT:,} may be committed"
        )
    target = RunStore(reports_root).folder(record.dataset, record.model, record.key)
    if target.exists() and not is_whole(target):
        _set_aside(target)
    if not target.exists():
        with new_folder(target) as temporary:
            for name in (RUN, PER_USER, ITEMS, EPOCHS):
                if (run_folder / name).is_file():
                    shutil.copyfile(run_folder / name, temporary / name)
    else:
        _bring_up_to_date(target, run_folder, record)
    facts = Path(run_folder).absolute().parents[2] / SPLITS / record.split_fingerprint
    if facts.is_dir() and not (own := reports_root / SPLITS / facts.name).is_dir():
        with new_folder(own) as temporary:
            shutil.copytree(facts, temporary, dirs_exist_ok=True)
    return target


def _bring_up_to_date(target: Path, run_folder: Path, record: RunRecord) -> None:
    """Give a published run today's name and the log that the same training left."""
    old = read_run(target)
    if old.variant != record.variant:
        rename_variant(target, record.variant)
    same = old.files.get(EPOCHS) == record.files.get(EPOCHS)
    if same and (run_folder / EPOCHS).is_file() and not (target / EPOCHS).exists():
        with new_file(target / EPOCHS) as temporary:
            shutil.copyfile(run_folder / EPOCHS, temporary)


def _check_place(record: RunRecord, name: str) -> None:
    """A run must lie under its own names, or the next command would not find it."""
    own = "/".join((folder_name(record.dataset), folder_name(record.model), record.key))
    if own != name:
        raise BrokenRunError(f"the run inside is {own}; move it there")


def _check_means(record: RunRecord, users: PerUser) -> None:
    """The means in a record must be those of its per-user values (kept as float32 at worst)."""
    for mask, means in users.means().items():
        told = record.metrics["test"].get(mask, {})
        for name, mean in means.items():
            if name in told and abs(told[name] - mean) > 1e-6:
                raise ValueError(f"metrics.test.{mask}.{name} is {told[name]}, but its users' mean is {mean}")


def _conflict(kept: StoredRun, twin: StoredRun) -> Problem:
    """Two folders with one key and different numbers."""
    name = f"{kept.record.dataset}/{kept.record.model}/{kept.record.key}"
    why = "two folders tell different numbers for this run; the one finished first is shown"
    return Problem(twin.folder, name, why)


def _set_aside(folder: Path) -> None:
    """Take a folder out of sight in one step, then delete it; another process may have been faster."""
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
    try:
        folder.rename(aside)
    except FileNotFoundError:
        pass
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _warn_if_other(record: RunRecord, folder: Path) -> None:
    """Say when the run that stands under our key is not ours and tells other numbers."""
    if read_run(folder).metrics != record.metrics:
        say(f"{folder}: a run with this key was finished meanwhile with other numbers; that one stays")
