"""`benchmarks/ablate.py`: a whole model and each of its declared variants, on the same seeds."""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_llmgraph.base.errors import UserError, unknown
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.data.catalogue import DatasetCard, dataset_card
from recbole_llmgraph.model.catalogue import ModelCard, model_card
from recbole_llmgraph.report.ablation import FULL, Arm, ablation_page, page_text
from recbole_llmgraph.report.pages import write_pages
from recbole_llmgraph.store.record import MASKS, RunRecord
from recbole_llmgraph.store.runs import RunStore, StoredRun
from recbole_llmgraph.suite.command import guarded
from recbole_llmgraph.suite.options import Parser, add_common, listing, names, read_sets, seeds
from recbole_llmgraph.suite.ray_pool import add_pool, check_address, read_pool

#: Where the tables are written.
OUT = Path("reports/ablations")
#: Metrics shown and tested when nobody names others: those of HeLLM's Table 3.
METRICS = ("recall@20", "ndcg@20")


def ablate_command(doc: str | None, arguments: Sequence[str]) -> int:
    """Parse, run, print and write the tables; returns the exit code."""
    return guarded(lambda rest: _ablate(doc or "", rest))(arguments)


def _parser(doc: str) -> Parser:
    parser = Parser(doc)
    add_common(parser)
    parser.add_argument("--variants", type=names, default=[], help="declared ones, comma list (default: all)")
    parser.add_argument(
        "--metric", type=names, default=list(METRICS), help=f"test metrics (default: {','.join(METRICS)})"
    )
    parser.add_argument("--mask", choices=MASKS, help="default: the one that chose the epochs")
    parser.add_argument(
        "--rerun", choices=["missing", "always", "never"], default="missing",
        help="never: a table of what is there (default: missing)",
    )  # fmt: skip
    parser.add_argument("--publish", action="store_true", help="copy finished runs to reports/runs")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder of the tables (default: {OUT})")
    add_pool(parser, parallel=1)
    return parser


def _ablate(doc: str, arguments: Sequence[str]) -> int:
    options = _parser(doc).parse_args(list(arguments))
    if "" not in sys.path:  # a user's own model class lies where the command is typed
        sys.path.append("")
    text = listing(options)
    if text is not None:
        print(text)
        return 0
    if not options.model or not options.dataset:
        raise UserError("name --model and --dataset (see --help, --list-models, --list-datasets)")
    cards = [model_card(name) for name in options.model]
    datasets = [dataset_card(name) for name in options.dataset]
    seeds(options.seeds)
    read_pool(options, inline=True)
    check_address(options.ray_address)
    planned = [(card, changes_of(card, options.variants)) for card in cards]
    _check(options, planned, datasets)
    for card, changes in planned:
        for dataset in datasets:
            _one(options, card, changes, dataset)
    return 0


def changes_of(card: ModelCard, asked: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Settings of each variant, the whole model first.

    Raises:
        UserError: when the model declares none, or not these.
    """
    from recbole_llmgraph.suite.sweep.axes import declared  # loads the model's class, and torch

    known = declared(card, "ablations")
    if not known:
        raise UserError(f"{card.name} declares no ablations; try --model=HeLLM, or run.py with --set")
    for name in asked:
        if name not in known:
            raise unknown(f"variant of {card.name}", name, known)
    return {FULL: {}, **{name: known[name] for name in asked or known}}


def _check(
    options: argparse.Namespace,
    planned: Sequence[tuple[ModelCard, Mapping[str, dict[str, Any]]]],
    datasets: Sequence[DatasetCard],
) -> None:
    """Names that `--metric` and `--set` give, before anything is trained."""
    from recbole_llmgraph.suite.provide import refuse_strangers
    from recbole_llmgraph.suite.sweep.plan import check_measured

    cells = [
        _cells(options, card, change, dataset)[0]
        for card, changes in planned
        for change in changes.values()
        for dataset in datasets
    ]
    for cell in cells:
        check_measured(options.metric, cell.protocol)
    refuse_strangers(read_sets(options.sets, [card for card, _ in planned]), cells)


def _one(
    options: argparse.Namespace, card: ModelCard, changes: Mapping[str, dict[str, Any]], dataset: DatasetCard
) -> None:
    """One model on one dataset: run, compare, print, write."""
    from recbole_llmgraph.suite.cell import selection_mask
    from recbole_llmgraph.suite.many import house_of, run_cells
    from recbole_llmgraph.suite.run import Runner

    cells = {name: _cells(options, card, change, dataset) for name, change in changes.items()}
    every = [cell for arm in cells.values() for cell in arm]
    if options.dry_run:
        for name, arm in cells.items():
            print(f"{name}: {'; '.join(cell.label for cell in arm)}, {arm[0].settings.epochs} epochs each")
        return
    house = house_of(options)
    if options.rerun != "never":
        pool = read_pool(options, inline=True)
        run_cells(house, every, pool, always=options.rerun == "always", publishing=options.publish)
    runner = Runner(house)
    stores = [house.runs] + ([RunStore(house.committed)] if house.committed else [])
    arms = []
    for name, arm in cells.items():
        runs = [_stored(stores, dataset.name, card.name, runner.key(cell)) for cell in arm]
        command = _command(options, card, changes[name], dataset.name)
        found = [run for run in runs if run is not None]
        arms.append(Arm(name, changes[name], found if len(found) == len(arm) else [], command))
    if not arms[0].runs:
        raise UserError(f"{card.name} on {dataset.name} was not run; first: {arms[0].command}")
    page = ablation_page(arms, options.mask or selection_mask(every[0]), options.metric)
    print(page_text(page))
    say("written: " + ", ".join(str(path) for path in write_pages([page], options.out)))


def _cells(
    options: argparse.Namespace, card: ModelCard, change: Mapping[str, Any], dataset: DatasetCard
) -> list[Any]:
    """One cell a seed; a change named `Model.key` is of a stage."""
    from recbole_llmgraph.suite.cell import choose_protocol, resolve_cell

    overrides = read_sets(options.sets, [card])
    for name, value in change.items():
        owner, dot, key = name.rpartition(".")
        overrides.setdefault(owner if dot else card.name, {})[key] = value
    protocol = choose_protocol([card], dataset, options.protocol)
    return [
        resolve_cell(card, dataset, protocol=protocol, preset=options.preset, seed=seed, overrides=overrides)
        for seed in seeds(options.seeds)
    ]


def _stored(stores: Sequence[RunStore], dataset: str, model: str, key: str) -> StoredRun | None:
    for store in stores:
        folder = store.find(dataset, model, key)
        if folder is not None:
            record: RunRecord = store.read(folder)
            return StoredRun(record, folder)
    return None


def _command(options: argparse.Namespace, card: ModelCard, change: Mapping[str, Any], dataset: str) -> str:
    """What runs one arm alone."""
    words = ["python", "benchmarks/run.py", f"--model={card.name}", f"--dataset={dataset}"]
    words += [f"--preset={options.preset}", f"--seeds={options.seeds}"]
    words += [f"--set={text}" for text in options.sets]
    words += [f"--set={key}={value}" for key, value in change.items()]
    return shlex.join(words)
