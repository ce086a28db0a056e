#!/usr/bin/env python
"""Seconds an epoch of LAGCL4Rec's rank level beside the suite's own XSimGCL, on the same rows in one run.

Both read one propagation of the same graph; LAGCL4Rec draws two negatives a row by group and its contrast
tells groups apart. Steps of the two alternate, and seconds are this process's own, so that a busy machine
slows neither more than the other.

examples:
  python benchmarks/perf/lagcl4rec.py --source ~/recsys-data
  python benchmarks/perf/lagcl4rec.py --dataset ml-100k --groups kmeans --steps 20
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.host.dataset import load_split
from recbole_llmgraph.model.catalogue import model_card
from recbole_llmgraph.suite.cell import resolve_cell
from recbole_llmgraph.suite.house import House, default_data_folder
from recbole_llmgraph.suite.provide import with_paths
from recbole_llmgraph.suite.run import Runner, make_cell_config, make_model
from recbole_llmgraph.train.optimiser import make_optimiser
from recbole_llmgraph.train.randomness import one_order_of_sums


class Timed:
    """A model in training, and the seconds that its steps took."""

    def __init__(self, options: argparse.Namespace, house: House, name: str, **changes: Any) -> None:
        """Args: the command's options, where data lie, model and changes to its standard settings."""
        changes["train_batch_size"] = options.batch_size
        cell = resolve_cell(
            model_card(name), dataset_card(options.dataset), protocol="sign", preset="standard", seed=1,
            overrides={name: changes},
        )  # fmt: skip
        cell = replace(cell, held_out=True)
        settings = with_paths(cell, Runner(house).provide(cell)).settings
        self.split = load_split(make_cell_config(cell, settings, house.ready(cell.dataset), "cpu"))
        self.model = make_model(cell, self.split).train()
        self.optimiser = make_optimiser(self.model.parameters(), settings)
        self.seconds: list[float] = []

    def step(self, rows: Any) -> None:
        """One step, timed."""
        started = time.process_time()
        self.optimiser.zero_grad(set_to_none=True)
        self.model.calculate_loss(load_batch(self.split.train, rows)).backward()
        self.optimiser.step()
        self.seconds.append(time.process_time() - started)


def main() -> None:
    """Parse, alternate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-1m")
    parser.add_argument("--groups", default="replay", help="as the setting of LAGCL4Rec (default: replay)")
    parser.add_argument("--batch-size", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=10, help="of each, after one that is not counted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--source", type=Path, help="folder of raw files")
    parser.add_argument("--store", type=Path, default=Path("runs"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    house = House(store=options.store, data=default_data_folder(), source=options.source)
    both = {
        "XSimGCL": Timed(options, house, "XSimGCL"),
        "LAGCL4Rec, rank level": Timed(
            options, house, "LAGCL4Rec", groups=options.groups, augment="none", rerank="off"
        ),
    }
    rows = len(next(iter(both.values())).split.dataset)
    rng = np.random.default_rng(0)
    with one_order_of_sums():
        for _ in range(options.steps + 1):
            drawn = rng.choice(rows, min(options.batch_size, rows), replace=False)
            for timed in both.values():
                timed.step(drawn)
    epoch = {
        name: float(np.median(timed.seconds[1:])) * rows / options.batch_size for name, timed in both.items()
    }
    print("| model | seconds an epoch | of XSimGCL's |\n| --- | ---: | ---: |")
    for name, seconds in epoch.items():
        print(f"| {name} | {seconds:.2f} | {seconds / epoch['XSimGCL']:.2f} |")


if __name__ == "__main__":
    main()
