"""LLaRA: a Llama that reads items as text and as SASRec's vectors, and learns from the one towards both.

Paper: Liao et al., "LLaRA: Large Language-Recommendation Assistant", SIGIR 2024, arXiv 2312.02445. Released
code, read for facts only: ljy0ustc/LLaRA.

    item     = [tokens of its title] [Proj(z_s)],  z_s of SASRec, Proj = Linear(D -> D) GELU Linear(d -> D)
    p        = batches so far / all planned batches                                 (the curriculum)
    loss     = with chance p of prompts with both, else of prompts of text alone

The paper chooses one of 20 candidates, which its prompt names, by writing a title. Here, as in HeLLM's
Table 1, a head scores all items after the history (`model/llama.py`) and no candidates are named. Each choice
is a named setting:

* `head` as in HeLLM. `feature` compares with SASRec's item vectors, `tied` with the mapped ones.
* `curriculum: linear` draws once a batch, as the release does; `none` shows both from the start. It is
  planned over all of `epochs`, although training may stop before. The release keeps a filler word where text
  prompts have no vector; ours leave it out.
* `prompts: hybrid | text | embedding`: what stands for an item; the curriculum leads to `hybrid` alone.
* An item's text is what the suite knows of it, title first, then brand and categories, cut to `title_tokens`
  and closed by `separator`; a built-in backbone's tokenizer has up to `vocabulary` tokens, more than HeLLM's,
  whose prompts hold no titles. `max_history` is the paper's ten items, where HeLLM reads fifty.
* `standardise` (ours, on in presets with built-in backbones): SASRec's vectors are brought to zero mean and
  unit variance a column.
* One wording (`instruction`, `response`), where the release draws one of three a batch.
* `tuning: full` (built-in backbones) trains all of the backbone where the paper trains LoRA.
* The paper starts from the first Llama of 7 billion; HeLLM's table compares on one backbone, and so do we.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from recbole_llmgraph.host.models import read_settings
from recbole_llmgraph.lm.decoder import last_states
from recbole_llmgraph.model.needs import ItemTable, ItemTitles, Need
from recbole_llmgraph.model.titled import Shown, TitledLlama, TitledSettings
from recbole_llmgraph.train.settings import SequenceSettings


class LLaRASettings(TitledSettings):
    """Settings of LLaRA; defaults are the published ones, or our choice where there is none."""

    epochs: PositiveInt = 5
    learning_rate: PositiveFloat = 2e-4
    train_batch_size: PositiveInt = 4
    accumulate: PositiveInt = 32
    weight_decay: NonNegativeFloat = 1e-5
    schedule: Literal["constant", "exponential", "linear", "cosine"] = "cosine"
    schedule_floor: NonNegativeFloat = 0.01
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    stopping_step: NonNegativeInt = 3
    lora_rank: PositiveInt = 8
    lora_alpha: PositiveInt = 32
    lora_dropout: float = Field(default=0.1, ge=0, lt=1)
    instruction: str = "The visit history of this user is:"
    response: str = "Recommend a next item for this user. Recommendation:"
    prompts: Shown = "hybrid"
    """What stands for an item: text and vector, or one of them."""
    curriculum: Literal["linear", "none"] = "linear"
    """From text to hybrid prompts, or hybrid prompts from the start."""
    sequence_embedding: str = ""
    """File of SASRec's item vectors; the suite fills it."""


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [1e-4, 2e-4, 1e-3],
    "lora_rank": [8, 16],
    "title_tokens": [4, 8, 16, 32],
}
#: Hybrid prompts from the start, and prompts of one kind of token (the paper's ablations).
ablations: dict[str, dict[str, Any]] = {
    "no_curriculum": {"curriculum": "none"},
    "text_only": {"prompts": "text"},
    "embedding_only": {"prompts": "embedding"},
}


class LLaRA(TitledLlama):
    """Llama over item texts and SASRec's vectors.

    Shapes: B rows, T items of the longest history in the batch, N items with padding, d width of SASRec's
    vectors, D width of the backbone.
    """

    settings: ClassVar[type[SequenceSettings]] = LLaRASettings
    lora_targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    options: LLaRASettings

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        options = self.options = read_settings(LLaRASettings, config)
        (items,) = self._trained_items(dataset, "sequence_embedding")
        self.register_buffer("item_vectors", items, persistent=False)  # [N, d]
        tokenizer = self._open_titled(config, dataset)
        self.prompt = self._prompt(tokenizer, options.instruction, "{items}", options.response)
        if options.prompts != "text" or options.head == "tied":
            #: Proj
            self.item_projection = nn.Sequential(
                nn.Linear(items.shape[1], self.width), nn.GELU(), nn.Linear(self.width, self.width)
            )
        self._build_head()
        rows = min(len(dataset), options.rows_per_epoch or len(dataset))
        #: Batches of an epoch, those seen since training began, and those of this epoch with vectors.
        self.batches, self.seen, self._hybrid = -(-rows // options.train_batch_size), 0, 0

    @classmethod
    def needs(cls, settings: LLaRASettings) -> list[Need]:
        """Vectors of SASRec, and item texts."""
        return [ItemTable("sequence_embedding", "SASRec"), ItemTitles("item_titles")]

    # -- curriculum --------------------------------------------------------------------

    def start_epoch(self, epoch: int) -> None:
        """Where the curriculum stands follows from the epoch: a resumed training goes on with it."""
        self.seen, self._hybrid = epoch * self.batches, 0

    def chance(self) -> float:
        """p: chance of prompts with vectors in the present batch."""
        return min(1.0, self.seen / (self.options.epochs * self.batches))

    def _shown(self) -> Shown:
        """What stands for an item in the next batch."""
        options = self.options
        if not self.training or options.prompts != "hybrid" or options.curriculum == "none":
            return options.prompts
        return "hybrid" if float(torch.rand(())) < self.chance() else "text"

    def epoch_log(self) -> dict[str, float]:
        """Fraction of the epoch's batches with vectors."""
        return {"with_vectors": self._hybrid / self.batches}

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Cross entropy of each row's next item among all items, on the prompts that the curriculum shows."""
        loss = super().calculate_loss(interaction)
        self.seen += 1
        return loss

    # -- forward -----------------------------------------------------------------------

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Last state of every row. Items `[B, T]` right-padded, lengths `[B]` -> `[B, D]`"""
        shown = self._shown()
        self._hybrid += self.training and shown != "text"
        listed = self._list(items, lengths, shown)
        fillings = {"items": (listed.places, listed.lengths)}
        prompts = self.prompt(self.backbone.embed_tokens, listed.rows, fillings)
        return last_states(self.backbone, prompts).float() * self.state_scale
