#!/usr/bin/env python
"""How HeLLMPre's cost grows with the data: made graphs of 1, 4 and 16 times Beauty's size.

A step spreads vectors over the whole graph and contrasts a fixed number of anchors with all nodes,
so the honest unit is seconds a step for each interaction of the graph: level when cost is linear.
Item neighbours are drawn at random, since finding them (once a dataset) is not part of a step.

examples:
  python benchmarks/perf/growth.py
  python benchmarks/perf/growth.py --scales 1,4 --steps 10
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.host.config import make_config, recbole_values
from recbole_llmgraph.host.dataset import load_split
from recbole_llmgraph.model.hellm_pre import HeLLMPre, HeLLMPreSettings
from recbole_llmgraph.suite.measure import peak_memory_mb, reset_peak_memory
from recbole_llmgraph.train.order import user_batches

#: Beauty: users, items and mean history.
USERS, ITEMS, HISTORY = 22_363, 12_101, 8.9


class RandomNeighbours(HeLLMPre):
    """HeLLMPre whose item neighbours are drawn, not found."""

    def _neighbours(self, dataset: Any) -> list[Tensor]:
        items = torch.arange(1, self.n_items).unsqueeze(1)
        others = torch.randint(1, self.n_items, (self.n_items - 1, self.options.knn_k - 1))
        return [torch.cat([items, others], dim=1)]


def write_made(folder: Path, scale: int, seed: int = 0) -> int:
    """Write atomic files of a made dataset with Beauty's history lengths and a long-tailed item side."""
    rng = np.random.default_rng(seed)
    users, items = USERS * scale, ITEMS * scale
    lengths = 5 + rng.geometric(1 / (HISTORY - 4), users) - 1
    popularity = np.arange(1, items + 1) ** -0.7
    drawn = rng.choice(items, int(lengths.sum()), p=popularity / popularity.sum())
    owners = np.repeat(np.arange(users), lengths)
    places = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = "\n".join(f"{u}\t{i}\t{t}" for u, i, t in zip(owners, drawn, places, strict=True))
    header = "user_id:token\titem_id:token\ttimestamp:float\n"
    (folder / "made.inter").write_text(header + rows + "\n")
    return len(owners)


def measure(scale: int, steps: int) -> tuple[int, float, float]:
    """Training interactions, median seconds a step and peak resident MB at one scale."""
    with tempfile.TemporaryDirectory() as name:
        write_made(Path(name), scale)
        settings = HeLLMPreSettings()
        values = HeLLMPre.recbole_config(settings)
        config = make_config(
            RandomNeighbours,
            "made",
            recbole_values("general", values, folder=Path(name), protocol="seq", seed=1),
        )
        split = load_split(config)
    reset_peak_memory()
    model = RandomNeighbours(config, split.dataset)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    users = split.dataset.inter_feat["user_id"].numpy()
    seconds = []
    for rows in user_batches(users, settings.train_batch_size, steps + 2, np.random.default_rng(1)):
        started = time.perf_counter()
        optimiser.zero_grad()
        model.calculate_loss(load_batch(split.train, rows)).backward()
        optimiser.step()
        seconds.append(time.perf_counter() - started)
    return len(users), float(np.median(seconds[2:])), peak_memory_mb()


def main() -> None:
    """Measure every scale and print one Markdown table."""
    summary, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scales", default="1,4,16")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"HeLLMPre, {options.threads} threads, torch {torch.__version__}\n")
    print("| scale | training interactions | ms a step | ns a step and interaction | peak resident MB |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for scale in map(int, options.scales.split(",")):
        count, seconds, peak = measure(scale, options.steps)
        print(
            f"| {scale} | {count:,} | {seconds * 1e3:.0f} | {seconds / count * 1e9:.0f} | {peak:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
