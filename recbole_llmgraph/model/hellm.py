"""HeLLM: a Llama that reads graph and sequence item vectors, with a graph-conditioned key/value prefix.

Paper: Guo et al., "Multi-Modal Hypergraph Enhanced LLM Learning for Recommendation" (HeLLM),
arXiv 2504.10541, 2025, stage B. Released code, read for facts only: Xu107/HeLLM @c7ebb4a.

E^G comes from HeLLMPre and E^S from SASRec, both trained on the same training part.

    x_t    = W2 GELU(W1 [E^G_i ; E^S_i])
    tokens = [instruction][x_1 .. x_T][response]
    M      = H' H,  H = E^G rows of the T items                          (eq. 8-9)
    p_K    = MLP_K(flat M),  p_V = MLP_V(flat M)
    P^l    = RMSNorm(learned^l + RMSNorm(p)),  k rows a layer            (eq. 10)
    keys   = [W_k^l P_K^l ; RoPE(W_k^l x)], values likewise              (eq. 11)
    logits = W_s RMSNorm(h_last) over all items, cross entropy on every prefix

Faithfulness, each choice a named setting:

* `fidelity: release` (default: it produced the published table) reads E^G at full width in M,
  norms after the MLP, freezes a random W_s and writes a second BOS before the response; `paper`
  projects E^G by W [64, 32] first, norms before the MLP, repeats one conditioned row k times into every
  layer's keys and values, unprojected, trains W_s, writes one BOS and uses Adam. Either way `head`,
  `bos` and `learner` can be set by name. The release pools padding rows (item 0) into M in training;
  we never do. It also cuts histories to 50 before the split, we cut each prefix to its last 50.
* `head`: `frozen` (release: a random, never trained W_s), `trainable` (paper), `tied` (compares with
  the items' own input tokens), `feature` (ours: W h compared with the frozen [E^G ; E^S]; the
  frozen random head needs thousands of dimensions, so built-in backbones take this one in presets).
* `standardise` (ours, on in presets with built-in backbones): E^G and E^S are brought to zero mean and
  unit variance a column, and M is divided by 64 T; the release feeds both as they are.
* `tuning: lora` freezes the backbone and trains LoRA on gate, up and down; `full` trains everything, the
  only sensible way for a backbone without pre-training; `auto` picks by that.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.models import read_settings
from recbole_llmgraph.lm.decoder import last_states
from recbole_llmgraph.lm.prefix import KeyValuePrefix
from recbole_llmgraph.lm.slots import SlotPrompt
from recbole_llmgraph.model.llama import LlamaRecommender, LlamaSettings, read_lines
from recbole_llmgraph.model.needs import ItemTable, ItemTexts, Need
from recbole_llmgraph.train.settings import SequenceSettings

#: Alpaca's frame around the paper's instruction.
ALPACA = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request. ### Instruction: Given the user's purchase "
    "history, predict next possible item to be purchased. ### Input:"
)
#: What `fidelity: paper` changes besides the prefix, where the user does not say otherwise.
PAPER = {"head": "trainable", "bos": "once", "learner": "adam"}


class HeLLMSettings(LlamaSettings):
    """Settings of HeLLM's stage B; defaults are the published ones."""

    epochs: PositiveInt = 12
    learning_rate: PositiveFloat = 3e-4
    train_batch_size: PositiveInt = 7
    learner: Literal["adam", "adamw"] = "adamw"
    adam_beta2: float = Field(default=0.95, gt=0, lt=1)
    weight_decay: NonNegativeFloat = 0.1
    schedule: Literal["constant", "exponential", "linear", "cosine"] = "cosine"
    schedule_floor: NonNegativeFloat = 5e-6 / 3e-4
    warmup_fraction: float = Field(default=1 / 12, ge=0, lt=1)
    stopping_step: NonNegativeInt = 3
    fidelity: Literal["release", "paper"] = "release"
    prefix: Literal["graph", "learned", "none"] = "graph"
    """`learned`: prefix rows without the graph's condition; `none`: no prefix."""
    prefix_length: PositiveInt = 10
    """k, prefix rows a layer."""
    prefix_dropout: float = Field(default=0.3, ge=0, lt=1)
    pooled_size: PositiveInt = 32
    """d' of the paper's projection of E^G before pooling; `release` pools at full width."""
    bos: Literal["once", "release"] = "release"
    instruction: str = ALPACA
    response: str = "### Response:"
    use_graph_id: bool = True
    """Read E^G in the item tokens."""
    use_sequence_id: bool = True
    """Read E^S in the item tokens."""
    graph_embedding: str = ""
    """File of E^G; the suite fills it."""
    sequence_embedding: str = ""
    """File of E^S; the suite fills it."""
    item_texts: str = ""
    """File of item texts, from which a built-in backbone's tokenizer is made; the suite fills it."""

    @model_validator(mode="before")
    @classmethod
    def _paper(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**PAPER, **values} if values.get("fidelity") == "paper" else values


search_space: dict[str, list[Any]] = {
    "learning_rate": [1e-4, 3e-4, 1e-3, 1.5e-3, 3e-3],
    "prefix_length": [5, 10, 20],
    "weight_decay": [0.0, 0.01, 0.1],
}
#: Rows of HeLLM Table 3 that concern this stage.
ablations: dict[str, dict[str, Any]] = {
    "no_gnn_peft": {"prefix": "learned"},
    "no_gnn_id": {"use_graph_id": False},
    "no_seq_id": {"use_sequence_id": False},
}


class HeLLM(LlamaRecommender):
    """Llama over graph and sequence item vectors.

    Shapes: B rows, T items of the longest history in the batch, N items with padding,
    d = 64 width of E^G and of E^S, D width of the backbone, k prefix rows, L layers.
    """

    settings: ClassVar[type[SequenceSettings]] = HeLLMSettings
    options: HeLLMSettings

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        self.options = read_settings(HeLLMSettings, config)
        graph, sequence = self._trained_items(dataset, "graph_embedding", "sequence_embedding")
        self.register_buffer("graph_items", graph, persistent=False)  # [N, d]
        self.register_buffer("item_vectors", self._joined(graph, sequence), persistent=False)
        opened = self._open_backbone(int(config["seed"]), read_lines(self.options.item_texts))
        template = f"{self.options.instruction} {{items}} {self.options.response}"
        self.prompt = SlotPrompt(template, opened.tokenizer, bos=self.options.bos)
        width = self.width
        #: W2 GELU(W1 .)
        self.item_projection = nn.Sequential(
            nn.Linear(self.item_vectors.shape[1], width), nn.GELU(), nn.Linear(width, width)
        )
        if self.options.prefix != "none":
            self._build_prefix()
        self._build_head()

    @classmethod
    def needs(cls, settings: HeLLMSettings) -> list[Need]:
        """E^G of HeLLMPre and E^S of SASRec; item texts when the backbone's tokenizer is made from them."""
        found: list[Need] = [
            ItemTable("graph_embedding", "HeLLMPre"),
            ItemTable("sequence_embedding", "SASRec"),
        ]
        if settings.backbone.startswith("builtin:"):
            found.append(ItemTexts("item_texts"))
        return found

    # -- construction ------------------------------------------------------------------

    def _joined(self, graph: Tensor, sequence: Tensor) -> Tensor:
        """[E^G ; E^S] or the part that the switches leave. `[N, 2d]`"""
        parts = [graph] * self.options.use_graph_id + [sequence] * self.options.use_sequence_id
        if not parts:
            raise UserError("HeLLM: use_graph_id and use_sequence_id are both off; keep one")
        return torch.cat(parts, dim=1)

    def _build_prefix(self) -> None:
        """Learned rows, and the two nets that condition them on the pooled graph vectors."""
        options = self.options
        release = options.fidelity == "release"
        self.prefix = KeyValuePrefix(self.backbone, options.prefix_length, options.fidelity)
        if options.prefix == "learned":
            return
        pooled = self.graph_items.shape[1] if release else options.pooled_size
        self.pool_projection: nn.Module = nn.Identity()
        if not release:
            self.pool_projection = nn.Linear(self.graph_items.shape[1], pooled, bias=False)
        self.key_net, self.value_net = (
            nn.Sequential(
                nn.Identity() if release else nn.RMSNorm(pooled**2, eps=1e-6),
                nn.Linear(pooled**2, self.width),
                nn.GELU(),
                nn.Dropout(options.prefix_dropout),
                nn.Linear(self.width, self.prefix.width),
            )
            for _ in range(2)
        )

    # -- forward -----------------------------------------------------------------------

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Last state of every row. Items `[B, T]` right-padded, lengths `[B]` -> `[B, D]`"""
        distinct, places = items.unique(return_inverse=True)
        tokens = self.item_projection(self.item_vectors[distinct])  # [R, D]
        cache, length = None, 0
        if self.options.prefix != "none":
            key, value = self._condition(items, lengths)
            cache, length = self.prefix.cache(self.backbone, key, value, len(items)), self.prefix.length
        prompts = self.prompt(
            self.backbone.embed_tokens, tokens, {"items": (places, lengths)}, prefix_length=length
        )
        return last_states(self.backbone, prompts, cache).float() * self.state_scale

    def _condition(self, items: Tensor, lengths: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """p_K and p_V from M = H' H of each row's items, padding left out (eq. 8-9). `[B, width]` each"""
        if self.options.prefix == "learned":
            return None, None
        rows = self.pool_projection(self.graph_items[items])  # [B, T, d']
        rows = rows * (items > 0).unsqueeze(-1)
        pooled = rows.transpose(1, 2) @ rows
        if self.options.standardise:
            pooled = pooled / (rows.shape[-1] * lengths.view(-1, 1, 1))
        flat = pooled.flatten(1)
        return self.key_net(flat), self.value_net(flat)
