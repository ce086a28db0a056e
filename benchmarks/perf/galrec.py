#!/usr/bin/env python
"""GAL-Rec's training examples a second beside the plain way, and its evaluation, in one run.

The plain way is what the paper's equations say at face value: six views of every pair, each padded to its
longest prompt and sent through transformers' own encoder, four of them again through a momentum copy, and
the text of every prompt embedded anew. Both ways draw the same neighbours and start from the same weights;
dropout is off, so that losses can be compared.

examples:
  python benchmarks/perf/galrec.py
  python benchmarks/perf/galrec.py --steps 3 --threads 1 --set gal_rows=0 --set wording=sentences
"""

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from epochs import Bench
from torch import Tensor
from torch.nn import functional as F
from transformers.activations import NewGELUActivation

from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.host.evaluation import Judge
from recbole_llmgraph.lm.quick import QuickLinear
from recbole_llmgraph.model.galrec_views import Pairs, View
from recbole_llmgraph.suite.measure import peak_memory_mb
from recbole_llmgraph.train.optimiser import make_optimiser
from recbole_llmgraph.train.order import batches_of_epoch


class PlainGALRec:
    """The same loss, one padded pass through transformers' encoder for every view."""

    def __init__(self, model: Any) -> None:
        """Args: the suite's model, whose weights are copied."""
        self.model = copy.deepcopy(model)
        for module in self.model.modules():
            if isinstance(module, QuickLinear):
                module.__class__ = torch.nn.Linear
            elif isinstance(getattr(module, "act", None), torch.nn.GELU):
                module.act = NewGELUActivation()
        self.memory = copy.deepcopy(self.model.reader).requires_grad_(False)
        self.optimiser = make_optimiser(self.model.parameters(), model.options)

    def loss(self, interaction: Any) -> Tensor:
        """L of one batch."""
        model = self.model
        pairs = model._pairs(interaction, interaction[model.POS_ITEM_ID], model.epoch)
        states, mask, mean = self._read(model.reader, pairs, "u2")
        start = model.reader.words.weight[model.decoder.config.decoder_start_token_id].expand(
            len(mask), 1, -1
        )
        found = model.decoder(
            inputs_embeds=start,
            encoder_hidden_states=states,
            encoder_attention_mask=mask.long(),
            use_cache=False,
        )
        rows = torch.cat([model._item_rows()[1:], model.text_rows * model.text_scale])
        loss = F.cross_entropy(found.last_hidden_state[:, 0] @ rows.T, pairs.targets - 1)
        chosen = model._contrasted(len(pairs.users))
        some = pairs.at(chosen)
        views: list[View] = ["u0", "u1", "i0", "i1", "i2"]
        query = {view: self._read(model.reader, some, view)[2] for view in views} | {"u2": mean[chosen]}
        with torch.no_grad():
            memory = {v: self._read(self.memory, some, v)[2] for v in model.plan.memory_views}
        return loss + model.contrast(some, query, memory)

    def _read(self, reader: Any, pairs: Pairs, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """States `[B, T, D]`, mask and mean of one view's prompts, padded to the longest."""
        reading = self.model.views.read([(pairs, [view])])
        (packed,) = reading.packs
        lengths = torch.cat([torch.full((n,), length) for n, length in packed.groups])
        mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
        index = torch.zeros(mask.shape, dtype=torch.long)
        index[mask] = packed.rows
        index, mask = packed.unpacked(index), packed.unpacked(mask)
        tokens = F.embedding(index, reader._table(reading))
        states = reader.encoder(inputs_embeds=tokens, attention_mask=mask.long()).last_hidden_state
        mean = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        return states, mask, mean

    def step(self, interaction: Any) -> float:
        """One optimiser step."""
        loss = self.loss(interaction)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        with torch.no_grad():
            for slow, fast in zip(self.memory.parameters(), self.model.reader.parameters(), strict=True):
                slow.lerp_(fast, 1 - self.model.options.momentum)
        return float(loss.detach())


class OurGALRec:
    """The suite's model and its optimiser."""

    def __init__(self, model: Any) -> None:
        """Args: the suite's model."""
        self.model = model
        self.optimiser = make_optimiser(model.parameters(), model.options)

    def step(self, interaction: Any) -> float:
        """One optimiser step."""
        loss = self.model.calculate_loss(interaction)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.model.end_step()
        return float(loss.detach())


def _by_length(split: Any, batches: list[np.ndarray]) -> list[np.ndarray]:
    """The rows of these batches, similar lengths together, as our trainer does: both ways read the same."""
    rows, data = np.concatenate(batches), split.train.dataset
    lengths = data.inter_feat[data.item_list_length_field].numpy()[rows]
    return np.array_split(rows[lengths.argsort(kind="stable")], len(batches))


def compare(bench: Bench, changes: dict[str, Any], steps: int) -> None:
    """Print losses and examples a second of both ways, then our evaluation."""
    model, split, settings = bench.ours("GALRec", **changes)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "key_value_proj_dim"):  # T5's attention keeps its own rate
            module.dropout = 0.0
    sides: dict[str, Any] = {"plain": PlainGALRec(model), "ours": OurGALRec(model)}
    seconds = dict.fromkeys(sides, 0.0)
    losses: dict[str, list[float]] = {name: [] for name in sides}
    shuffled = batches_of_epoch(split.train, settings, np.random.default_rng(0), "uniform")[: steps + 1]
    orders = {"plain": shuffled[1:], "ours": _by_length(split, shuffled[1:])}
    first = load_batch(split.train, shuffled[0], True)
    for name, side in sides.items():
        torch.manual_seed(0)
        losses[name].append(side.step(first))  # warm, and equal?
    for turn in range(steps):
        for name, side in sides.items():  # in turns, so that both meet the same noise
            batch = load_batch(split.train, orders[name][turn], True)
            started = time.perf_counter()
            losses[name].append(side.step(batch))
            seconds[name] += time.perf_counter() - started
    gap = abs(losses["plain"][0] - losses["ours"][0])
    rate = {name: steps * settings.train_batch_size / seconds[name] for name in sides}
    print(
        f"| training, examples a second | {rate['ours']:.0f} | {rate['plain']:.0f} "
        f"| {rate['ours'] / rate['plain']:.1f}× | loss {losses['ours'][0]:.5f} differs by {gap:.1e} |"
    )
    judged = Judge(split)(model, "valid")
    print(
        f"| evaluation of {len(judged.users):,} users, s | {judged.seconds:.1f} | – | – "
        f"| peak resident {peak_memory_mb():,.0f} MB |"
    )


def main() -> None:
    """Measure and print one Markdown table."""
    summary, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="beauty")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each way (default: 10)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("runs"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    changes = {"source": "text", **dict(part.split("=", 1) for part in options.set)}
    print(f"GALRec on {options.dataset}, {options.threads} threads, torch {torch.__version__}\n")
    print("| work | ours | plain | ratio | equal? |")
    print("| :--- | ---: | ---: | ---: | :--- |")
    compare(Bench(options), changes, options.steps)


if __name__ == "__main__":
    main()
