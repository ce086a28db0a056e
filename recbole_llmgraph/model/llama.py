"""What HeLLM, CoLLM and LLaRA have in common: a Llama reads a prompt, its last state scores all items.

    logits = W_s RMSNorm(h_last) over all items, cross entropy on every prefix

The models differ in what their prompts hold and in what training changes when; each says so in its own
file. The head over all items is the form in which HeLLM's Table 1 sets the three side by side.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.artifact.tables import rows_for
from recbole_llmgraph.host.dataset import item_tokens, training_fingerprint
from recbole_llmgraph.host.models import InputType, SequentialRecommender, config_values
from recbole_llmgraph.lm.backbone import Backbone, open_backbone, read_dtype
from recbole_llmgraph.lm.builtin import VOCABULARY
from recbole_llmgraph.lm.lora import FEED_FORWARD, add_lora
from recbole_llmgraph.loss.cross_entropy import item_cross_entropy
from recbole_llmgraph.model.tables import checked_table
from recbole_llmgraph.train.settings import SequenceSettings


class LlamaSettings(SequenceSettings):
    """Backbone, tuning, head and text of a prompt."""

    backbone: str = "hub:meta-llama/Llama-2-7b-hf"
    random_weights: bool = False
    """Open `backbone`'s architecture with fresh weights: the control for pre-training."""
    dtype: Literal["fp32", "bf16"] = "bf16"
    """Type of the frozen backbone; what is trained is always fp32."""
    tuning: Literal["auto", "lora", "full"] = "auto"
    lora_rank: PositiveInt = 16
    lora_alpha: PositiveInt = 16
    lora_dropout: float = Field(default=0.05, ge=0, lt=1)
    head: Literal["frozen", "trainable", "tied", "feature"] = "frozen"
    bos: Literal["once", "release"] = "once"
    """Begin-of-sequence token at the start, or before the response too."""
    instruction: str = ""
    """Text before the items."""
    response: str = ""
    """Text after the items."""
    standardise: bool = False


class LlamaRecommender(SequentialRecommender):
    """Llama with a head over items.

    A model gives `forward` (a batch's last states) and builds, in its own order, what the head reads:
    `item_vectors`, `item_projection`.

    Shapes: B rows, T items of the longest history in the batch, N items with padding, d width of an item's
    vector, D width of the backbone.
    """

    input_type = InputType.POINTWISE
    settings: ClassVar[type[SequenceSettings]] = LlamaSettings
    batching: ClassVar[str] = "by_length"
    #: Layers that LoRA adapts.
    lora_targets: ClassVar[Sequence[str]] = FEED_FORWARD
    options: LlamaSettings
    item_vectors: Tensor

    @classmethod
    def recbole_config(cls, settings: Any) -> dict[str, Any]:
        """Config keys; cross entropy over all items wants no negatives."""
        return {**config_values(settings), "train_neg_sample_args": None}

    # -- construction ------------------------------------------------------------------

    def _trained_items(self, dataset: Any, *fields: str) -> list[Tensor]:
        """Tables that earlier stages trained on this split, in its item order. `[N, d]` each"""
        tokens, seen, name = item_tokens(dataset), training_fingerprint(dataset), type(self).__name__
        tables = [checked_table(getattr(self.options, field), field, name, seen) for field in fields]
        found = [rows_for(table, tokens).float() for table in tables]
        return [standardised(rows) for rows in found] if self.options.standardise else found

    def _open_backbone(
        self, seed: int, texts: Sequence[str] | None, vocabulary: int = VOCABULARY
    ) -> Backbone:
        """The backbone, frozen under adapters or trained whole.

        Args:
            seed: draws fresh weights.
            texts: what a built-in's tokenizer is learned from.
            vocabulary: most tokens of that tokenizer.
        """
        options = self.options
        builtin = options.backbone.startswith("builtin:")
        self.tuned_by_lora = options.tuning == "lora" or (options.tuning == "auto" and not builtin)
        opened = open_backbone(
            options.backbone,
            family="llama",
            texts=texts,
            seed=seed,
            random_weights=options.random_weights,
            dtype=read_dtype(options.dtype if self.tuned_by_lora else "fp32"),  # what is trained is fp32
            vocabulary=vocabulary,
        )
        self.backbone, self.width, self.backbone_name = opened.model, opened.width, opened.name
        if self.tuned_by_lora:
            rank, alpha = options.lora_rank, options.lora_alpha
            add_lora(self.backbone, rank, alpha, options.lora_dropout, self.lora_targets)
        self._reopened = {
            f"backbone.{name}"
            for name, weight in self.backbone.named_parameters()
            if not weight.requires_grad
        }
        # A pre-trained final norm can scale states far from 1; logits start at the size of a fresh one.
        norm: Any = opened.model.norm
        self.state_scale = float(norm.weight.detach().float().square().mean().rsqrt())
        return opened

    def _build_head(self) -> None:
        """W_s or what stands in its place."""
        match self.options.head:
            case "frozen" | "trainable":
                self.score = nn.Linear(self.width, self.n_items, bias=False)
                nn.init.normal_(self.score.weight, std=self.width**-0.5)
                self.score.weight.requires_grad_(self.options.head == "trainable")
            case "feature":
                self.score = nn.Linear(self.width, self.item_vectors.shape[1])
            case "tied":
                pass  # compares with the item projection

    # -- scoring -----------------------------------------------------------------------

    def _states(self, interaction: Any) -> Tensor:
        """What `forward` makes of a batch. `[B, D]`"""
        states: Tensor = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return states

    def _compared(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """What each row predicts with and what it is compared with. `[B, D] -> [B, w], [N, w]`"""
        match self.options.head:
            case "feature":
                return self.score(states), self.item_vectors
            case "tied":
                return states / self.width**0.5, self.item_projection(self.item_vectors)
            case _:
                return states, self.score.weight

    def _logits(self, states: Tensor) -> Tensor:
        """Scores of all items, padding at -inf. `[B, D] -> [B, N]`"""
        query, table = self._compared(states)
        padding = torch.zeros(self.n_items, device=query.device)
        padding[0] = -torch.inf
        allowed: Tensor = query @ table.T + padding
        return allowed

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Cross entropy of each row's next item among all items."""
        query, table = self._compared(self._states(interaction))
        return item_cross_entropy(query, table[1:], interaction[self.POS_ITEM_ID] - 1)

    def predict(self, interaction: Any) -> Tensor:
        """Score of each row's item. `[B]`"""
        logits = self._logits(self._states(interaction))
        return logits.gather(1, interaction[self.ITEM_ID].unsqueeze(1)).squeeze(1)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items for each row. `[B * N]`"""
        return self._logits(self._states(interaction)).view(-1)

    # -- what is kept and told ---------------------------------------------------------

    def reopened_names(self) -> set[str]:
        """Weights that checkpoints leave out: the frozen backbone opens from its source again."""
        return self._reopened

    @property
    def notes(self) -> list[str]:
        """What a reader of this model's row must know."""
        found = [f"backbone {self.backbone_name}", f"head {self.options.head}"]
        if self.options.head == "feature" or self.options.standardise:
            found.append("head/standardise are this suite's choices for small backbones, not the paper's")
        return found


def read_lines(file: str) -> list[str] | None:
    """Lines of a file that the suite provided; None without one."""
    return Path(file).read_text("utf-8").splitlines() if file else None


def standardised(rows: Tensor) -> Tensor:
    """Columns with zero mean and unit variance over real rows; the padding row stays zero. `[N, d]`"""
    real = rows[1:]
    scaled = (real - real.mean(0)) / real.std(0).clamp_min(1e-6)
    return F.pad(scaled, (0, 0, 1, 0))
