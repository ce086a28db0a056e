"""`benchmarks/score.py`: top lists of an outside model onto the board; facts for runs that have none yet."""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.hashing import hash_data, hash_file
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.data.catalogue import DatasetCard, dataset_card
from recbole_llmgraph.host.dataset import Split, load_split
from recbole_llmgraph.host.evaluation import MASKS, Mask
from recbole_llmgraph.host.lists import judge_lists, tested_users
from recbole_llmgraph.model.catalogue import PRESETS, model_card
from recbole_llmgraph.store.facts import ITEMS
from recbole_llmgraph.store.lists import read_lists
from recbole_llmgraph.store.record import Code, RunRecord
from recbole_llmgraph.store.runs import TOPK, StoredRun, add_file, folder_name, publish, read_stores
from recbole_llmgraph.suite.cell import choose_protocol, resolve_cell
from recbole_llmgraph.suite.command import guarded
from recbole_llmgraph.suite.facts import keep_facts
from recbole_llmgraph.suite.house import House, dataset_fingerprint, default_data_folder
from recbole_llmgraph.suite.lists import list_ids
from recbole_llmgraph.suite.measure import code_version
from recbole_llmgraph.suite.options import COMMITTED, Parser
from recbole_llmgraph.suite.run import make_cell_config

#: A model without settings of its own, by which a split is loaded that belongs to no run.
PLAIN = "Pop"


def score_command(doc: str | None, arguments: Sequence[str]) -> int:
    """Parse and do; returns the exit code."""
    return guarded(lambda rest: _score(doc or "", rest))(arguments)


def _parser(doc: str) -> argparse.ArgumentParser:
    parser = Parser(doc)
    parser.add_argument("--topk", type=Path, help="file of top lists: user, item, rank or score")
    parser.add_argument("--name", help="the outside model's name on the board")
    parser.add_argument("--dataset", help="dataset that the lists were made for")
    parser.add_argument(
        "--protocol", help="seq, rate, sign or a draw, as rate@2 (default: the dataset's first)"
    )
    parser.add_argument(
        "--mask", choices=MASKS, help="what the lists leave out (default: the dataset's mask)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the run that made the lists")
    parser.add_argument("--preset", choices=PRESETS, default="standard", help="table that it stands in")
    parser.add_argument("--note", action="append", default=[], help="what readers must know; repeatable")
    parser.add_argument("--complete", action="store_true", help="count recommended items for older runs")
    parser.add_argument("--store", type=Path, default=Path("runs"), help="folder of runs (default: runs/)")
    parser.add_argument("--data", type=Path, help="prepared data (default: $RECBOLE_LLMGRAPH_DATA or data/)")
    parser.add_argument("--source", type=Path, help="folder of raw files, looked into before any download")
    return parser


def _score(doc: str, arguments: Sequence[str]) -> int:
    options = _parser(doc).parse_args(list(arguments))
    house = House(store=options.store, data=options.data or default_data_folder(), source=options.source)
    if options.complete:
        complete(house)
        return 0
    for name in ("topk", "name", "dataset"):
        if not getattr(options, name):
            raise UserError(f"name --{name} (see --help)")
    card = dataset_card(options.dataset)
    protocol = choose_protocol([], card, options.protocol)
    mask: Mask = options.mask or card.mask_default
    outside = Outside(
        options.topk, options.name, protocol, mask, options.seed, options.preset, tuple(options.note)
    )
    record = score(house, card, outside)
    told = ", ".join(f"{name} {value:.4f}" for name, value in record.metrics["test"][mask].items())
    say(f"{record.model} on {record.dataset}, mask {mask}: {told}")
    return 0


@dataclass(frozen=True)
class Outside:
    """A file of top lists and how it came about.

    Attributes:
        path: the file.
        name: the model's, on the board.
        protocol, seed: of the split that it was made for.
        mask: what the lists leave out.
        preset: the table that it stands in.
        notes: what readers must know.
    """

    path: Path
    name: str
    protocol: str
    mask: Mask
    seed: int = 1
    preset: str = "standard"
    notes: tuple[str, ...] = ()


def score(house: House, card: DatasetCard, outside: Outside) -> RunRecord:
    """Judge a file of top lists and store it like a run.

    Raises:
        UserError: for a file of another form, unknown ids, or items that the mask forbids.
    """
    ready, mask = house.ready(card), outside.mask
    lists = read_lists(outside.path, mask)
    split = plain_split(house, card, outside.protocol, outside.seed)
    items = list_ids(split, lists, mask, str(outside.path))
    means, per_user = judge_lists(split, items)
    k, users = max(split.config["topk"]), tested_users(split)
    short = int((np.count_nonzero(items[:, :k], axis=1) < k).sum())
    notes = [f"lists of {short:,} users hold fewer than {k} items"] if short else []
    read = dataset_fingerprint(ready, None, outside.protocol)
    record = _outside_record(card, outside, split, read, means, notes)
    with tempfile.TemporaryDirectory() as folder:
        facts = keep_facts(house, ready, split, users, {mask: items[:, :k]}, Path(folder))
        house.runs.write(record, per_user.add_suffix(f"|{mask}"), folder_files=[facts])
    return record


def _outside_record(
    card: DatasetCard,
    outside: Outside,
    split: Split,
    fingerprint: str,
    means: dict[str, float],
    notes: list[str],
) -> RunRecord:
    """The record of a file; its key is the file's content and what it was made for."""
    digest = hash_file(outside.path)
    named = asdict(outside) | {"path": digest, "notes": ()}
    told = f"scored from a file of top lists ({digest[:12]}); trained outside this suite"
    return RunRecord(
        key=hash_data([named, fingerprint]),
        model=outside.name,
        dataset=card.name,
        protocol=outside.protocol,
        preset=outside.preset,
        seed=outside.seed,
        settings={},
        results_version=1,
        split_fingerprint=split.fingerprint,
        candidates=split.n_items - 1,
        single_target=len(tested_users(split)) == len(split.test._dataset),
        mask=outside.mask,
        metrics={"test": {outside.mask: means}},
        code=Code(**code_version()),
        notes=[told, *outside.notes, *notes],
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def plain_split(house: House, card: DatasetCard, protocol: str, seed: int) -> Split:
    """A split of a dataset as every model of its protocol and seed sees it."""
    cell = resolve_cell(model_card(PLAIN), card, protocol=protocol, preset="quick", seed=seed, overrides={})
    return load_split(make_cell_config(cell, cell.settings, house.ready(card), house.device))


def complete(house: House) -> None:
    """Count what runs recommended that were finished before such counts were kept; nothing is trained."""
    stored = read_stores([house.store])
    for problem in stored.problems:
        say(f"{problem.folder}: {problem.why}")
    waiting = [run for run in stored.runs if not (run.folder / ITEMS).is_file()]
    splits: dict[tuple[str, str, int], Split] = {}
    for number, run in enumerate(waiting, start=1):
        where = (run.record.dataset, run.record.protocol, run.record.seed)
        say(f"[{number}/{len(waiting)}] {run.record.model} on {run.record.dataset} ({run.record.key})")
        if not (run.folder / TOPK).is_file():
            say(f"{run.folder}: no {TOPK}; run it again to have its items counted")
            continue
        if where not in splits:
            splits = {where: plain_split(house, dataset_card(where[0]), *where[1:])}
        _complete(house, run, splits[where])
    say(f"{len(waiting)} runs looked at, {len(stored.runs) - len(waiting)} were complete")


def _complete(house: House, run: StoredRun, split: Split) -> None:
    """Add its counts to one run, here and where it was published."""
    record = run.record
    if split.fingerprint != record.split_fingerprint:
        say(f"{run.folder}: made on another split of {record.dataset}; left as it is")
        return
    lists: dict[Mask, npt.NDArray[np.int32]] = {}
    for mask in MASKS:
        if mask in record.metrics["test"]:
            lists[mask] = list_ids(split, read_lists(run.folder / TOPK, mask), mask, str(run.folder / TOPK))
    with tempfile.TemporaryDirectory() as folder:
        facts = keep_facts(
            house, house.ready(dataset_card(record.dataset)), split, tested_users(split), lists, Path(folder)
        )
        add_file(run.folder, facts)
        published = COMMITTED / folder_name(record.dataset) / folder_name(record.model) / record.key
        if published.is_dir():
            add_file(published, facts)
            publish(run.folder, COMMITTED)
