"""CoLLM: a Llama that reads item texts, into whose prompt LightGCN's vectors are mapped in a second stage.

Paper: Zhang et al., "CoLLM: Integrating Collaborative Embeddings into Large Language Models for
Recommendation", arXiv 2310.19488, 2023 (IEEE TKDE 2025). Released code, read for facts only: zyang1580/CoLLM.

    e_u, e_i = M_phi(u), M_phi(i),  u and i of LightGCN, M_phi = Linear(10d -> D) ReLU Linear(d -> 10d)
    stage 1    prompts of text alone; LoRA is tuned                                 (phase `text`)
    stage 2    prompts with e_u and e_i in their slots; M_phi is tuned, LoRA stands (phase `mapping`)

The paper asks "would the user enjoy this item" and reads Yes or No. Here, as in HeLLM's Table 1, a head
scores all items after the history (`model/llama.py`), which moves things; each choice is a named setting:

* The item that the paper's prompt asks about is gone from it, and with it the slot of e_i. `item_slots`
  (ours, on) gives every item of the history its slot, behind its text. `head` as in HeLLM; it belongs to the
  language model and is tuned in stage 1 alone. With `head: feature` it compares with LightGCN's item vectors.
* `user_row: history` (ours) puts the mean of the vectors of the history's items in u's place. The paper's
  `static` row of LightGCN is made from all training items of a user, the target of the training row among
  them; `none` leaves the slot out.
* An item's text is what the suite knows of it, title first, then brand and categories, cut to `title_tokens`
  and closed by `separator`; a built-in backbone's tokenizer has up to `vocabulary` tokens, more than HeLLM's,
  whose prompts hold no titles. `max_history` is the paper's ten items, where HeLLM reads fifty.
* `standardise` (ours, on in presets with built-in backbones): LightGCN's vectors are brought to zero mean and
  unit variance a column.
* Stages last `text_epochs` and `epochs`; the first keeps its last epoch, validation picks the second's.
  The release trains each for at most 10,000 steps of 16 rows, 160 thousand, and picks both by validation.
* `tuning: full` (built-in backbones) trains all of the backbone where the paper trains LoRA: in stage 1.
* The paper starts from Vicuna-7B; HeLLM's table compares on one backbone, and so do we.
* From a user's own RecBole script, whose trainer knows no phases, everything is trained at once.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from recbole_llmgraph.artifact.tables import rows_for
from recbole_llmgraph.host.dataset import training_fingerprint, user_tokens
from recbole_llmgraph.host.models import read_settings
from recbole_llmgraph.lm.decoder import last_states
from recbole_llmgraph.model.llama import standardised
from recbole_llmgraph.model.needs import ItemTable, ItemTitles, Need, UserTable
from recbole_llmgraph.model.tables import checked_table
from recbole_llmgraph.model.titled import TitledLlama, TitledSettings
from recbole_llmgraph.train.settings import Phase, SequenceSettings

#: Width of the mapping's hidden layer, in widths of LightGCN's vectors.
WIDER = 10


class CoLLMSettings(TitledSettings):
    """Settings of CoLLM; defaults are the published ones, or our choice where there is none."""

    epochs: PositiveInt = 2
    """Most epochs of the second stage."""
    text_epochs: PositiveInt = 2
    """Epochs of the first stage."""
    learning_rate: PositiveFloat = 1e-3
    train_batch_size: PositiveInt = 16
    learner: Literal["adam", "adamw"] = "adamw"
    weight_decay: NonNegativeFloat = 1e-3
    schedule: Literal["constant", "exponential", "linear", "cosine"] = "cosine"
    schedule_floor: NonNegativeFloat = 0.08
    warmup_fraction: float = Field(default=0.02, ge=0, lt=1)
    stopping_step: NonNegativeInt = 3
    lora_rank: PositiveInt = 8
    head: Literal["frozen", "trainable", "feature"] = "frozen"
    instruction: str = "#Question: A user has given high ratings to the following items:"
    feature: str = "Additionally, we have information about the user's preferences encoded in the feature"
    """Text before the user's slot."""
    response: str = "Using all available information, predict which item the user would enjoy next. #Answer:"
    stages: Literal["two", "one"] = "two"
    """`one`: everything is tuned at once, on prompts with slots, for the epochs of both stages."""
    use_collaborative_id: bool = True
    """False: prompts of text alone, for the epochs of both stages."""
    item_slots: bool = True
    """Slots behind the texts of the history's items."""
    user_row: Literal["history", "static", "none"] = "history"
    """What LightGCN knows of the user."""
    collaborative_items: str = ""
    """File of LightGCN's item vectors; the suite fills it."""
    collaborative_users: str = ""
    """File of LightGCN's user vectors, for `user_row: static`; the suite fills it."""

    @model_validator(mode="after")
    def _some_slot(self) -> "CoLLMSettings":
        if self.use_collaborative_id and not self.item_slots and self.user_row == "none":
            raise ValueError("user_row: none and item_slots: false leave no slot; keep one")
        return self


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [1e-4, 1e-3, 1e-2],
    "weight_decay": [1e-5, 1e-3, 1e-2],
    "text_epochs": [1, 2, 3],
}
#: Without the collaborative embeddings, and without the order of the stages (the paper's ablations).
ablations: dict[str, dict[str, Any]] = {
    "no_collaborative": {"use_collaborative_id": False},
    "one_stage": {"stages": "one"},
}


class CoLLM(TitledLlama):
    """Llama over item texts and LightGCN's vectors.

    Shapes: B rows, T items of the longest history in the batch, N items and U users with padding, d width of
    LightGCN's vectors, D width of the backbone.
    """

    settings: ClassVar[type[SequenceSettings]] = CoLLMSettings
    lora_targets = ("q_proj", "v_proj")
    options: CoLLMSettings

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        options = self.options = read_settings(CoLLMSettings, config)
        (items,) = self._trained_items(dataset, "collaborative_items")
        self.register_buffer("item_vectors", items, persistent=False)  # [N, d]
        tokenizer = self._open_titled(config, dataset)
        self.text_only = not options.use_collaborative_id
        self.text_prompt = self._prompt(tokenizer, options.instruction, "{items}", options.response)
        if options.use_collaborative_id:
            user = [] if options.user_row == "none" else [options.feature, "{user}"]
            pieces = [options.instruction, "{items}", *user, options.response]
            self.prompt = self._prompt(tokenizer, *pieces)
            if options.user_row == "static":
                self.register_buffer("user_vectors", self._users(dataset), persistent=False)  # [U, d]
            width = items.shape[1]
            #: M_phi
            self.item_projection = nn.Sequential(
                nn.Linear(width, WIDER * width), nn.ReLU(), nn.Linear(WIDER * width, self.width)
            )
        self._build_head()
        self._tuned = {name for name, weight in self.named_parameters() if weight.requires_grad}

    @classmethod
    def needs(cls, settings: CoLLMSettings) -> list[Need]:
        """Vectors of LightGCN, and item texts."""
        found: list[Need] = [ItemTable("collaborative_items", "LightGCN"), ItemTitles("item_titles")]
        if settings.use_collaborative_id and settings.user_row == "static":
            found.append(UserTable("collaborative_users", "LightGCN"))
        return found

    def _users(self, dataset: Any) -> Tensor:
        """LightGCN's user vectors. `[U, d]`"""
        seen = training_fingerprint(dataset)
        table = checked_table(self.options.collaborative_users, "collaborative_users", "CoLLM", seen)
        rows = rows_for(table, user_tokens(dataset)).float()
        return standardised(rows) if self.options.standardise else rows

    # -- stages ------------------------------------------------------------------------

    @classmethod
    def phases(cls, settings: CoLLMSettings) -> list[Phase]:
        """Text to its last epoch, then the mapping to its best one; or one phase as long as both."""
        both = settings.text_epochs + settings.epochs
        if not settings.use_collaborative_id:
            return [Phase("text", both)]
        if settings.stages == "one":
            return [Phase("joint", both)]
        return [Phase("text", settings.text_epochs, selects=False), Phase("mapping", settings.epochs)]

    def enter_phase(self, name: str) -> None:
        """Show the prompts of a phase, and train what it trains."""
        self.text_only = name == "text"
        for weight_name, weight in self.named_parameters():
            mapping = weight_name.startswith("item_projection.")
            trained = name == "joint" or mapping == (name == "mapping")
            weight.requires_grad_(trained and weight_name in self._tuned)

    def trained_names(self) -> set[str]:
        """Weights that one phase or another trains."""
        return self._tuned

    # -- forward -----------------------------------------------------------------------

    def _states(self, interaction: Any) -> Tensor:
        fields = (self.ITEM_SEQ, self.ITEM_SEQ_LEN, self.USER_ID)
        states: Tensor = self.forward(*(interaction[field] for field in fields))
        return states

    def forward(self, items: Tensor, lengths: Tensor, users: Tensor) -> Tensor:
        """Last state of every row. Items `[B, T]` right-padded, lengths `[B]`, users `[B]` -> `[B, D]`"""
        options, words = self.options, self.backbone.embed_tokens
        slots = options.item_slots and not self.text_only
        listed = self._list(items, lengths, "hybrid" if slots else "text")
        rows, fillings = listed.rows, {"items": (listed.places, listed.lengths)}
        if not self.text_only and options.user_row != "none":
            place = torch.arange(len(rows), len(rows) + len(users), device=users.device)
            fillings["user"] = (place.unsqueeze(1), torch.ones_like(users))
            mapped = self.item_projection(self._user_vectors(items, lengths, users))  # [B, D]
            rows = torch.cat([rows, mapped.to(rows.dtype)])
        prompt = self.text_prompt if self.text_only else self.prompt
        return last_states(self.backbone, prompt(words, rows, fillings)).float() * self.state_scale

    def _user_vectors(self, items: Tensor, lengths: Tensor, users: Tensor) -> Tensor:
        """U of every row; padding is a zero row of the table. `[B, d]`"""
        if self.options.user_row == "static":
            found: Tensor = self.user_vectors[users]
            return found
        return self.item_vectors[items].sum(1) / lengths.unsqueeze(1)
