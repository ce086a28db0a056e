#!/usr/bin/env python
"""Seconds an epoch and evaluation speed beside RecBole's own code, on the same data in one run.

RecBole's side is RecBole: its model class, loader and trainer with default batches. Where a whole
epoch of it takes minutes, `--steps` of its steps are timed and scaled, and the table says so.

examples:
  python benchmarks/perf/epochs.py --dataset beauty
  python benchmarks/perf/epochs.py --dataset beauty --only hellmpre,lightgcn --threads 1
"""

import argparse
import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recbole.model.general_recommender import LightGCN as PlainLightGCN
from recbole.model.sequential_recommender import SASRec as PlainSASRec
from recbole.trainer import Trainer as PlainTrainer

from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.host.config import make_config, recbole_values
from recbole_llmgraph.host.dataset import Split, load_split
from recbole_llmgraph.host.evaluation import Judge
from recbole_llmgraph.model.catalogue import model_card
from recbole_llmgraph.suite.cell import choose_protocol, resolve_cell
from recbole_llmgraph.suite.house import House, default_data_folder
from recbole_llmgraph.suite.measure import peak_memory_mb, reset_peak_memory
from recbole_llmgraph.suite.provide import with_paths
from recbole_llmgraph.suite.run import Runner, make_cell_config, make_model
from recbole_llmgraph.train.trainer import Trainer

# RecBole's sequential models switch anomaly detection on when imported; it would slow both sides.
torch.autograd.set_detect_anomaly(False)

WORKS = ("hellmpre", "lightgcn", "sasrec", "evaluation")


@dataclass
class Row:
    """One line of the table; seconds of ours and of the rival, None without a rival."""

    work: str
    ours: float
    rival: float | None
    equal: str

    def markdown(self) -> str:
        """The line."""
        rival = f"{self.rival:.1f}" if self.rival else "–"
        ratio = f"{self.rival / self.ours:.1f}×" if self.rival else "–"
        return f"| {self.work} | {self.ours:.2f} | {rival} | {ratio} | {self.equal} |"


class Bench:
    """Models of the suite and of RecBole on one dataset."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Args: the command's options."""
        self.options = options
        self.house = House(store=options.store, data=default_data_folder())
        self.card = dataset_card(options.dataset)
        self.ready = self.house.ready(self.card)

    def ours(self, name: str, **changes: Any) -> tuple[Any, Split, Any]:
        """A model of the suite at its standard preset, its split and its settings."""
        card = model_card(name)
        cell = resolve_cell(
            card,
            self.card,
            protocol=choose_protocol([card], self.card, None),
            preset="standard",
            seed=1,
            overrides={name: changes},
        )
        given = Runner(self.house).provide(cell)
        settings = with_paths(cell, given).settings
        split = load_split(make_cell_config(cell, settings, self.ready, "cpu"))
        return make_model(cell, split), split, settings

    def plain(self, model_class: type, family: str, values: dict[str, Any]) -> tuple[Any, Split]:
        """RecBole's own model on RecBole's own loaders, in its defaults but for `values`."""
        config = make_config(
            model_class,
            self.card.name,
            recbole_values(family, values, folder=self.ready.folder, protocol="seq", seed=1),
        )
        split = load_split(config)
        torch.manual_seed(1)
        return model_class(config, split.dataset), split

    def epoch_seconds(self, model: Any, split: Split, settings: Any, epochs: int = 2) -> float:
        """Fastest of some whole epochs of the suite's trainer, validation apart."""
        changed = settings.model_copy(update={"epochs": epochs, "eval_step": 0})
        folder = self.options.store / "perf"
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        done = Trainer(model, split, changed, folder=folder, seed=1, validate=lambda _: 0.0).fit()
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        return min(entry["seconds"] for entry in done.history)

    def plain_epoch_seconds(self, model: Any, split: Split, steps: int | None) -> tuple[float, str]:
        """An epoch of RecBole's loop (loader, loss, backward, Adam); scaled when `steps` are timed."""
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
        model.train()
        total = len(split.train)
        timed = min(steps or total, total)
        started = time.perf_counter()
        for interaction in itertools.islice(split.train, timed):
            optimiser.zero_grad()
            model.calculate_loss(interaction).backward()
            optimiser.step()
        seconds = (time.perf_counter() - started) * total / timed
        return seconds, "whole epoch" if timed == total else f"{timed} of {total} steps, scaled"


def hellmpre(bench: Bench) -> list[Row]:
    """Stage A of HeLLM: no rival in RecBole; DESIGN's bounds are 30 s on Beauty and 80 s on Sports."""
    reset_peak_memory()
    model, split, settings = bench.ours("HeLLMPre")
    seconds = bench.epoch_seconds(model, split, settings, epochs=3)
    peak = peak_memory_mb()
    return [Row(f"HeLLMPre epoch (peak resident {peak:,.0f} MB)", seconds, None, "–")]


def lightgcn(bench: Bench) -> list[Row]:
    """LightGCN at one batch size, losses of the first step side by side."""
    size = {"train_batch_size": 2048}
    model, split, settings = bench.ours("LightGCN", require_pow=False, n_layers=2, **size)
    rival, rival_split = bench.plain(PlainLightGCN, "general", {**size, "n_layers": 2, "reg_weight": 1e-4})
    rival.load_state_dict(model.state_dict(), strict=False)
    batch = next(iter(rival_split.train))
    gap = abs(float(model.calculate_loss(batch)) - float(rival.calculate_loss(batch)))
    ours = bench.epoch_seconds(model, split, settings)
    theirs, how = bench.plain_epoch_seconds(rival, rival_split, None)
    return [Row(f"LightGCN epoch ({how})", ours, theirs, f"loss differs by {gap:.1e}")]


def sasrec(bench: Bench) -> list[Row]:
    """SASRec at RecBole's default batch size, losses without dropout side by side."""
    size = {"train_batch_size": 2048}
    model, split, settings = bench.ours("SASRec", **size)
    rival, rival_split = bench.plain(PlainSASRec, "sequential", {**size, "train_neg_sample_args": None})
    rival.load_state_dict(model.state_dict())
    batch = next(iter(rival_split.train))[:256]
    model.eval()
    rival.eval()
    gap = abs(float(model.calculate_loss(batch)) - float(rival.calculate_loss(batch)))
    ours = bench.epoch_seconds(model, split, settings, epochs=1)
    theirs, how = bench.plain_epoch_seconds(rival, rival_split, bench.options.steps)
    return [Row(f"SASRec epoch ({how})", ours, theirs, f"loss differs by {gap:.1e}")]


def evaluation(bench: Bench) -> list[Row]:
    """Full-sort validation of all users: RecBole's trainer against both masks of ours."""
    model, split, _ = bench.ours("LightGCN", require_pow=False, n_layers=2)
    values = {"n_layers": 2, "reg_weight": 1e-4, "checkpoint_dir": str(bench.options.store / "perf")}
    rival, rival_split = bench.plain(PlainLightGCN, "general", values)
    rival.load_state_dict(model.state_dict(), strict=False)
    judged = Judge(split)(model, "valid")
    trainer = PlainTrainer(rival_split.config, rival)
    trainer.eval_collector.data_collect(rival_split.train)
    started = time.perf_counter()
    theirs = trainer.evaluate(rival_split.valid, load_best_model=False)
    seconds = time.perf_counter() - started
    # On the validation part RecBole masks training items, as our mask `train` does.
    gap = max(abs(theirs[name] - value) for name, value in judged.metrics["train"].items())
    users = len(judged.users)
    return [Row(f"evaluation of {users:,} users", judged.seconds, seconds, f"metrics differ by {gap:.1e}")]


def main() -> None:
    """Measure and print one Markdown table."""
    summary, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="beauty")
    parser.add_argument("--only", default=",".join(WORKS), help=f"comma list of {', '.join(WORKS)}")
    parser.add_argument("--steps", type=int, default=8, help="RecBole SASRec steps timed (default: 8)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("runs"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench(options)
    works = {"hellmpre": hellmpre, "lightgcn": lightgcn, "sasrec": sasrec, "evaluation": evaluation}
    print(f"{options.dataset}, {options.threads} threads, torch {torch.__version__}\n")
    print("| work | ours, s | RecBole, s | ratio | equal? |")
    print("| :--- | ---: | ---: | ---: | :--- |")
    for name in options.only.split(","):
        for row in works[name](bench):
            print(row.markdown(), flush=True)


if __name__ == "__main__":
    main()
