"""A yes/no classifier on a decoder: does this candidate suit this user?

The prompt is put together from pieces that are tokenised once each; its last state gives one logit. Prompts
are batched by length.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.base.progress import track
from recbole_llmgraph.lm.backbone import open_backbone, read_dtype, seeded
from recbole_llmgraph.lm.decoder import last_states
from recbole_llmgraph.lm.lora import add_lora
from recbole_llmgraph.lm.slots import PromptBatch

#: Tokens of all prompts of a batch that is scored.
TOKENS = 16_384
#: Tokens of a prompt at most; the release trains on 128 and asks with 512.
LONGEST = 512


class YesNo(nn.Module):
    """Decoder with a linear head on the last state.

    Args:
        spec: a backbone of `open_backbone`.
        texts: what a built-in's tokenizer is learned from.
        seed: of fresh weights.
        tuning: `lora`, `full`, or `auto` (LoRA unless built in).
        rank: of LoRA.
        dtype: of a frozen backbone.
        piece: tokens of a piece at most.
    """

    def __init__(
        self,
        spec: str,
        texts: Sequence[str] | None,
        *,
        seed: int,
        tuning: str = "auto",
        rank: int = 16,
        dtype: str = "fp32",
        piece: int = 64,
    ) -> None:
        super().__init__()
        lora = tuning == "lora" or (tuning == "auto" and not spec.startswith("builtin:"))
        opened = open_backbone(
            spec, family="llama", texts=texts, seed=seed, dtype=read_dtype(dtype if lora else "fp32")
        )
        self.backbone: Any = opened.model
        self.tokenizer: Any = opened.tokenizer
        self.name = opened.name
        self.piece = piece
        if lora:
            with seeded(seed):
                add_lora(self.backbone, rank, rank)
        norm: Any = opened.model.norm
        self.state_scale = float(norm.weight.detach().float().square().mean().rsqrt())
        self.head = nn.Linear(opened.width, 1)
        nn.init.zeros_(self.head.bias)
        nn.init.zeros_(self.head.weight)  # starts at "nobody knows"
        self._pieces: dict[str, list[int]] = {}

    def ids(self, pieces: Sequence[str], kept: int = 0) -> list[int]:
        """Token ids of a prompt: the pieces one after another, each cut to `piece` tokens.

        Of a prompt that is too long the last `kept` pieces stay, and what stands before them is cut.
        """
        begin = [] if self.tokenizer.bos_token_id is None else [int(self.tokenizer.bos_token_id)]
        told = [self._ids(text) for text in pieces]
        end = len(told) - kept
        tail = [*chain.from_iterable(told[end:])]
        return [*begin, *chain.from_iterable(told[:end])][: max(0, LONGEST - len(tail))] + tail

    def _ids(self, text: str) -> list[int]:
        """Tokens of a piece."""
        if text not in self._pieces:
            told = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            self._pieces[text] = list(told)[: self.piece]
        return self._pieces[text]

    def forward(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Logits of yes. `[B]`"""
        longest = max(map(len, prompts))
        device = self.head.weight.device
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = True
        ids, mask = ids.to(device), mask.to(device)
        embedded = self.backbone.embed_tokens(ids) * mask.unsqueeze(2)
        states = last_states(self.backbone, PromptBatch(embedded, mask)).float() * self.state_scale
        logits: Tensor = self.head(states)[:, 0]
        return logits

    def fit(
        self,
        prompts: Sequence[Sequence[int]],
        labels: Sequence[int],
        *,
        epochs: int,
        batch: int,
        learning_rate: float,
        weight_decay: float,
        warmup: float,
        seed: int,
    ) -> list[float]:
        """Train with binary cross entropy, AdamW and linear decay; mean loss of each epoch."""
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        weights = [weight for weight in self.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=weight_decay)
        steps = epochs * -(-len(prompts) // batch)
        warm = max(1, round(warmup * steps))
        course = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm + 1))
        )
        self.train()
        told = []
        for epoch in range(epochs):
            losses = []
            groups = list(_batches(prompts, batch, rng))
            for rows in track(groups, f"reranker {epoch + 1}", unit="step"):
                target = torch.tensor([float(labels[row]) for row in rows], device=self.head.weight.device)
                loss = F.binary_cross_entropy_with_logits(self([prompts[row] for row in rows]), target)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(weights, 1.0)
                optimiser.step()
                course.step()
                losses.append(float(loss.detach()))
            told.append(float(np.mean(losses)))
        return told

    @torch.no_grad()
    def scores(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of yes, in order; prompts of similar length are read together. `[n]`"""
        self.eval()
        found = np.zeros(len(prompts))
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        parts, start = [], 0
        while start < len(order):
            size = max(1, TOKENS // len(prompts[order[min(start + 63, len(order) - 1)]]))
            parts.append(order[start : start + size])
            start += size
        for part in track(parts, "reranker", unit="batch"):
            found[part] = self([prompts[row] for row in part]).cpu().numpy()
        return found

    def save(self, path: Path) -> None:
        """Write what was trained."""
        kept = {name for name, weight in self.named_parameters() if weight.requires_grad}
        save_file({name: value for name, value in self.state_dict().items() if name in kept}, path)

    def restore(self, path: Path) -> None:
        """Put it back.

        Raises:
            RuntimeError: when it was trained with another backbone or another way.
        """
        kept = load_file(path)
        wanted = {name for name, weight in self.named_parameters() if weight.requires_grad}
        if wanted != set(kept):
            raise RuntimeError(f"{path} holds other weights than this classifier trains")
        self.load_state_dict(kept, strict=False)


def _batches(prompts: Sequence[Sequence[int]], size: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Rows of each step: random pools of 32 batches, sorted by length inside, in random order."""
    order = rng.permutation(len(prompts))
    found = []
    for start in range(0, len(order), 32 * size):
        pool = sorted(order[start : start + 32 * size].tolist(), key=lambda row: len(prompts[row]))
        found += [pool[at : at + size] for at in range(0, len(pool), size)]
    return (found[at] for at in rng.permutation(len(found)))
