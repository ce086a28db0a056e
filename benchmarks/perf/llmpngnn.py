#!/usr/bin/env python
"""LLM-PNGNN's seconds an epoch beside the plain way, in one run, from the same weights and the same draws.

The plain way is what most code does: adjacencies as COO lists that autograd transposes at every backward
pass, a list of layers to average, and the vectors of all negatives copied out before they are multiplied.
Both draw negatives with the suite's sampler, so that propagation and scoring alone are compared. An epoch is
the median step times the steps of an epoch.

examples:
  python benchmarks/perf/llmpngnn.py
  python benchmarks/perf/llmpngnn.py --dataset ml-100k --steps 3 --threads 1
"""

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from epochs import Bench
from torch import Tensor, nn

from recbole_llmgraph.graph.sparse import SparseMatrix
from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.model import llmpngnn
from recbole_llmgraph.suite.measure import peak_memory_mb
from recbole_llmgraph.train.optimiser import make_optimiser
from recbole_llmgraph.train.order import batches_of_epoch
from recbole_llmgraph.train.randomness import one_order_of_sums


class PlainPairs:
    """Scores of sampled pairs with every vector copied out."""

    def __init__(self, users: Tensor, items: Tensor, n_users: int, n_items: int) -> None:
        """Args: as `SampledPairs`."""
        self.users, self.items = users, items + n_users

    def scores(self, nodes: Tensor) -> Tensor:
        """`[B, k]`."""
        return (nodes[self.users].unsqueeze(1) * nodes[self.items]).sum(dim=2)


class CooMatrix(nn.Module):
    """The same matrix as a COO list."""

    def __init__(self, matrix: SparseMatrix) -> None:
        """Args: the suite's matrix."""
        super().__init__()
        counts = (matrix.rows[1:] - matrix.rows[:-1]).long()
        rows = torch.repeat_interleave(torch.arange(matrix.size[0]), counts)
        index = torch.stack([rows, matrix.cols.long()])
        self.list = torch.sparse_coo_tensor(index, matrix.values, matrix.size).coalesce()


def layers_by_list(matrix: CooMatrix, x: Tensor, n_layers: int) -> Tensor:
    """Mean over layers, each kept."""
    layers = [x]
    for _ in range(n_layers):
        layers.append(torch.sparse.mm(matrix.list, layers[-1]))
    return torch.stack(layers, dim=1).mean(dim=1)


def plain_of(model: Any) -> Any:
    """A copy of the model that goes the plain way."""
    plain = copy.deepcopy(model)
    plain.likes, plain.dislikes = CooMatrix(model.likes), CooMatrix(model.dislikes)
    return plain


class Way:
    """One way of taking steps, in the suite's module or with its parts exchanged."""

    def __init__(self, model: Any, settings: Any, parts: dict[str, Any]) -> None:
        """Args: model, settings, and names of `model/llmpngnn.py` with what stands for them."""
        self.model, self.parts = model, parts
        self.optimiser = make_optimiser(model.parameters(), settings)
        self.seconds: list[float] = []

    def step(self, batch: Any, seed: int) -> float:
        """One optimiser step; equal seeds draw equal negatives and drop out the same."""
        torch.manual_seed(seed)
        before = {name: getattr(llmpngnn, name) for name in self.parts}
        for name, part in self.parts.items():
            setattr(llmpngnn, name, part)
        started = time.perf_counter()
        with one_order_of_sums():
            loss = self.model.calculate_loss(batch)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
        self.seconds.append(time.perf_counter() - started)
        for name, part in before.items():
            setattr(llmpngnn, name, part)
        return float(loss.detach())


def main() -> None:
    """Measure and print one Markdown table."""
    summary, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-1m")
    parser.add_argument("--steps", type=int, default=8, help="steps timed a way (default: 8)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("runs"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, split, settings = Bench(options).ours("LLMPNGNN", oracle="off")
    model.train()
    rows = batches_of_epoch(split.train, settings, np.random.default_rng(0), "uniform")
    ours = Way(model, settings, {})
    plain = Way(plain_of(model), settings, {"light_propagation": layers_by_list, "SampledPairs": PlainPairs})
    gaps = []
    for number in range(options.steps + 1):  # by turns, so that both meet the same neighbours
        batch = load_batch(split.train, rows[number % len(rows)])
        told = [way.step(batch, number) for way in (ours, plain)]
        gaps.append(abs(told[0] - told[1]) / told[1])
    seconds = [float(np.median(way.seconds[1:])) * len(rows) for way in (ours, plain)]
    print(f"{options.dataset}, {options.threads} threads, torch {torch.__version__}\n")
    print("| work | ours, s | plain COO, s | ratio | equal? |")
    print("| :--- | ---: | ---: | ---: | :--- |")
    work = f"LLMPNGNN epoch of {len(rows)} steps (peak resident {peak_memory_mb():,.0f} MB)"
    equal = f"losses of {len(gaps)} steps differ by {max(gaps):.1e} of themselves"
    print(f"| {work} | {seconds[0]:.1f} | {seconds[1]:.1f} | {seconds[1] / seconds[0]:.1f}× | {equal} |")


if __name__ == "__main__":
    main()
