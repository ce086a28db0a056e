"""GAL-Rec: a T5 that reads a user's graph neighbourhood, aligned with her other views by contrast.

Paper: "Enhancing Collaborative Semantics of Language Model-Driven Recommendations via Graph-Aware
Learning" (GAL-Rec), arXiv 2406.13235, 2024. No code was released; what the paper leaves open is this
suite's choice and a named setting.

    prompts  u0 u1 u2 i0 i1 i2, see galrec_views.py; users and items are rows g(h), never tokens
    E        mean of encoder states, unit length; sim = cosine
    L1, L2, L3 between the encodings of views, see galrec_contrast.py                    (eq. 5-13)
    L0 = cross entropy of the decoder's first step over text and items, after the prompt u2
    L  = L0 + lambda_1 L1 + lambda_2 L2 + lambda_3 L3

Faithfulness, each choice a named setting:

* `positives: momentum` (ours) takes P from the momentum copy, as MoCo does; `query` is the paper's
  wording, which collapses from scratch (`batch_cosine` in the log). Queues hold the copy's encodings.
* `user_row: history` (ours) stands the mean of the items before the target for the user whom a prompt is
  about, and the mean of their training items for others; `static` is the paper's external row, made from
  the whole training part and so from the target too; `none` leaves the user's own slot empty.
* `l1_negatives: zero_hop` follows the denominators of eq. 5-6, `two_hop` eq. 14.
* `item_out: tied` compares the decoder's state with g(h), over sqrt(D); `free` with rows of its own.
* `gal_rows` > 0 (presets for two cores) contrasts that many rows of a batch, drawn uniformly.
* `wording: marks` (presets with built-in backbones) writes one mark for each phrase.
* The weights lambda, the momentum, epochs and wording are unpublished.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.artifact.tables import rows_for
from recbole_llmgraph.graph.neighbours import mix_keys
from recbole_llmgraph.host.dataset import item_tokens, training_fingerprint, training_pairs, user_tokens
from recbole_llmgraph.host.models import InputType, SequentialRecommender, config_values, read_settings
from recbole_llmgraph.lm.backbone import open_backbone, text_head
from recbole_llmgraph.lm.lora import add_lora
from recbole_llmgraph.lm.quick import quicken
from recbole_llmgraph.lm.t5 import decode_first
from recbole_llmgraph.loss.cross_entropy import item_cross_entropy
from recbole_llmgraph.loss.uniformity import spread
from recbole_llmgraph.model.galrec_contrast import Contrast, ContrastPlan, Loss
from recbole_llmgraph.model.galrec_reader import ExternalVectors, Reader, mean_rows
from recbole_llmgraph.model.galrec_views import Caps, Job, Pairs, View, Views
from recbole_llmgraph.model.needs import ItemTable, ItemTexts, Need, TextFeatures, UserTable
from recbole_llmgraph.model.tables import checked_table
from recbole_llmgraph.train.settings import SequenceSettings

#: Model that trains the vectors of a source.
TRAINED = {"lightgcn": "LightGCN", "sasrec": "SASRec"}
#: Epoch key of prompts that are scored or drawn, which must not change from one reading to the next.
SCORING = -1
#: Projections that adapters stand beside.
ADAPTED = ("q", "k", "v", "o")
#: Rows of a batch whose spread is logged.
LOGGED = 64


class GALRecSettings(SequenceSettings):
    """Settings of GALRec; defaults are the published ones, or our choice where there is none."""

    epochs: PositiveInt = 20
    learning_rate: PositiveFloat = 3e-5
    train_batch_size: PositiveInt = 8
    accumulate: PositiveInt = 8
    learner: Literal["adam", "adamw"] = "adamw"
    weight_decay: NonNegativeFloat = 1e-3
    schedule: Literal["constant", "exponential", "linear", "cosine"] = "linear"
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    stopping_step: NonNegativeInt = 3
    backbone: str = "hub:google/flan-t5-base"
    random_weights: bool = False
    """Open `backbone`'s architecture with fresh weights: the control for pre-training."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the backbone's layers (autocast); weights are fp32."""
    lora: bool = False
    """Freeze the backbone and train adapters beside its q, k, v and o."""
    lora_rank: PositiveInt = 16
    lora_alpha: PositiveInt = 16
    lora_dropout: float = Field(default=0.05, ge=0, lt=1)
    source: Literal["lightgcn", "sasrec", "text"] = "lightgcn"
    """Where the external vectors come from."""
    text_encoder: str = "auto"
    external: Literal["frozen", "trainable"] = "frozen"
    rescale: bool = True
    """Bring external rows to the size of text rows."""
    user_row: Literal["history", "static", "none"] = "history"
    item_out: Literal["tied", "free"] = "tied"
    loss_vocab: Literal["full", "items"] = "full"
    """L0 over text and items, or over items alone."""
    wording: Literal["sentences", "marks"] = "sentences"
    hops: Literal[1, 2, 3] = 2
    """How far a user's prompt reaches (Table V); with 1 only L3 is defined."""
    hop1_items: PositiveInt = 20
    hop1_users: PositiveInt = 20
    hop2_neighbors: PositiveInt = 8
    """Second-order neighbours drawn of each first-order one."""
    hop2_cap: PositiveInt = 160
    """Second-order neighbours named in one prompt."""
    max_length: PositiveInt = 512
    """Most tokens of a prompt."""
    gal: bool = True
    """False trains L0 alone, on the same prompts (Table III)."""
    drop: Literal["none", "L1", "L2", "L3"] = "none"
    lambda_1: NonNegativeFloat = 0.1
    lambda_2: NonNegativeFloat = 0.1
    lambda_3: NonNegativeFloat = 0.1
    tau: PositiveFloat = 0.1
    queue_length: NonNegativeInt = 512
    """Encodings in each of the four queues."""
    momentum: float = Field(default=0.999, ge=0, le=1)
    positives: Literal["momentum", "query"] = "momentum"
    l1_negatives: Literal["zero_hop", "two_hop"] = "zero_hop"
    gal_rows: NonNegativeInt = 0
    """Rows of a batch that are contrasted; 0 takes all."""
    item_vectors: str = ""
    """File of h_i; the suite fills it."""
    user_vectors: str = ""
    """File of h_u, for `user_row: static`; the suite fills it."""
    item_texts: str = ""
    """File of item texts, from which a built-in backbone's tokenizer is made; the suite fills it."""

    @model_validator(mode="after")
    def _sensible(self) -> "GALRecSettings":
        if self.user_row == "none" and self.gal:
            raise ValueError("user_row: none leaves the view u0 without a user; set gal=false with it")
        return self

    def plan(self) -> ContrastPlan:
        """What is contrasted; no terms where the switches leave none."""
        found: dict[Loss, float] = {"L1": self.lambda_1, "L2": self.lambda_2, "L3": self.lambda_3}
        weights = {
            loss: weight
            for loss, weight in found.items()
            if self.gal and weight and loss != self.drop and (loss == "L3" or self.hops > 1)
        }
        return ContrastPlan(
            weights, self.l1_negatives, self.positives, self.tau, self.queue_length, self.momentum
        )


#: Values that sweeps try; the axes of Fig. 5, whose ticks for queues and neighbours are not readable.
search_space: dict[str, list[Any]] = {
    "tau": [0.05, 0.1, 0.15, 0.2],
    "queue_length": [128, 256, 512, 1024, 2048],
    "hop2_neighbors": [2, 4, 6, 8, 10],
    "learning_rate": [1e-5, 3e-5, 1e-4],
    "momentum": [0.0, 0.9, 0.99, 0.999],
    "lambda_1": [0.01, 0.05, 0.1, 0.2, 0.5],
    "lambda_2": [0.01, 0.05, 0.1, 0.2, 0.5],
    "lambda_3": [0.01, 0.05, 0.1, 0.2, 0.5],
}
#: Rows of GAL-Rec Tables III, IV and V.
ablations: dict[str, dict[str, Any]] = {
    "no_gal": {"gal": False},
    "no_l1": {"drop": "L1"},
    "no_l2": {"drop": "L2"},
    "no_l3": {"drop": "L3"},
    "one_hop": {"hops": 1},
    "three_hops": {"hops": 3},
}


class GALRec(SequentialRecommender):
    """T5 over graph prompts, with contrastive alignment of their views.

    Shapes: B rows, G of them contrasted, N items with padding, d1 width of the external vectors,
    D width of the backbone, Q queue length.
    """

    input_type = InputType.POINTWISE
    settings: ClassVar[type[SequenceSettings]] = GALRecSettings
    batching: ClassVar[str] = "by_length"

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        self.options = read_settings(GALRecSettings, config)
        self.seed, self.epoch = int(config["seed"]), 0
        self.n_users = int(dataset.num(self.USER_ID))
        opened = self._open_backbone()
        users, items = (torch.from_numpy(ids) for ids in training_pairs(dataset))
        options = self.options
        caps = Caps(options.hop1_items, options.hop1_users, options.hop2_neighbors, options.hop2_cap)
        self.views = Views(
            users, items, (self.n_users, self.n_items), opened.tokenizer, caps, options.hops, options.wording
        )
        self.views.check(options.max_length)
        external = self._external(dataset, users, items, opened.model.shared.weight)
        self.reader = Reader(opened.model, external, self.views.text)
        self.decoder = opened.model.decoder
        self._build_head(opened)
        self.plan = options.plan()
        if self.plan.terms:
            self.contrast = Contrast(self.reader, self.plan, self.width)
        self._spread: list[tuple[float, float]] = []

    @classmethod
    def needs(cls, settings: GALRecSettings) -> list[Need]:
        """Vectors of the source; item texts when the backbone's tokenizer is made from them."""
        found: list[Need] = []
        if settings.source == "text":
            found.append(TextFeatures("item_vectors", settings.text_encoder))
        else:
            found.append(ItemTable("item_vectors", TRAINED[settings.source]))
            if settings.user_row == "static":
                found.append(UserTable("user_vectors", TRAINED[settings.source]))
        if settings.backbone.startswith("builtin:"):
            found.append(ItemTexts("item_texts"))
        return found

    @classmethod
    def recbole_config(cls, settings: GALRecSettings) -> dict[str, Any]:
        """Config keys; cross entropy wants no negatives."""
        return {**config_values(settings), "train_neg_sample_args": None}

    # -- construction ------------------------------------------------------------------

    def _open_backbone(self) -> Any:
        options = self.options
        texts = Path(options.item_texts).read_text("utf-8").splitlines() if options.item_texts else None
        opened = open_backbone(
            options.backbone, family="t5", texts=texts, seed=self.seed, random_weights=options.random_weights
        )
        self.backbone_name, self.width = opened.name, opened.width
        quicken(opened.model)
        if options.lora:
            add_lora(opened.model, options.lora_rank, options.lora_alpha, options.lora_dropout, ADAPTED)
        return opened

    def _external(self, dataset: Any, users: Tensor, items: Tensor, text: Tensor) -> ExternalVectors:
        options, seen = self.options, training_fingerprint(dataset)
        trained = options.source != "text"
        table = checked_table(options.item_vectors, "item_vectors", "GALRec", seen if trained else None)
        item_rows = rows_for(table, item_tokens(dataset)).float()  # [N, d1]
        if options.user_row == "static" and trained:
            of_users = checked_table(options.user_vectors, "user_vectors", "GALRec", seen)
            user_rows = rows_for(of_users, user_tokens(dataset)).float()
        else:
            user_rows = mean_rows(item_rows, users, items, self.n_users)
        trainable = options.external == "trainable"
        return ExternalVectors(
            item_rows, user_rows, text, options.user_row, trainable=trainable, rescale=options.rescale
        )

    def _build_head(self, opened: Any) -> None:
        """Rows that the decoder's state is compared with: text tokens, then items."""
        self.text_rows, tied = text_head(opened)
        #: T5 divides the state by sqrt(D) before rows that are its input rows too.
        self.text_scale = opened.width**-0.5 if tied else 1.0
        self.item_scale = opened.width**-0.5
        if self.options.item_out == "free":
            with torch.no_grad():
                start = self.reader.external.mapped_items() * self.item_scale
            self.item_rows = nn.Parameter(start.clone())

    # -- forward -----------------------------------------------------------------------

    def _pairs(self, interaction: Any, targets: Tensor | None = None, epoch: int = SCORING) -> Pairs:
        """Rows with the keys of their neighbours: seed, epoch, user and how much of her history is read."""
        users, lengths = interaction[self.USER_ID], interaction[self.ITEM_SEQ_LEN]
        keys = mix_keys(self.seed, epoch, users, lengths)
        unknown = torch.zeros_like(users) if targets is None else targets
        return Pairs(users, interaction[self.ITEM_SEQ], lengths, unknown, keys)

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.dtype == "bf16")

    def _decode(self, states: Tensor, packed: Any) -> Tensor:
        """The decoder's state before its first word. `[B, D]`"""
        start = self.reader.words.weight[self.decoder.config.decoder_start_token_id or 0]
        return decode_first(self.decoder, start, states, packed).float()

    def _item_rows(self) -> Tensor:
        """What a state is compared with to score items. `[N, D]`"""
        if self.options.item_out == "free":
            return self.item_rows
        rows: Tensor = self.reader.external.mapped_items() * self.item_scale
        return rows

    def calculate_loss(self, interaction: Any) -> Tensor:
        """L0 of every row and the contrastive losses of some."""
        pairs = self._pairs(interaction, interaction[self.POS_ITEM_ID], self.epoch)
        jobs: list[Job] = [(pairs, ["u2"])]
        if self.plan.terms:
            chosen = self._contrasted(len(pairs.users))
            some = pairs.at(chosen)
            more: list[View] = [view for view in self.plan.query_views if view != "u2"]
            jobs.append((some, more))
        reading = self.views.read(jobs)
        with self._autocast():
            passes = self.reader(reading)
            state = self._decode(passes[0][0], reading.packs[0])
        loss = self._next_item(state, pairs.targets)
        if self.training and len(pairs.users) > 1:
            self._spread.append(spread(passes[0][1][:LOGGED]))
        if not self.plan.terms:
            return loss
        query = dict(zip(more, passes[1][1].chunk(len(more)), strict=True))
        query["u2"] = passes[0][1][chosen]
        total: Tensor = loss + self.contrast(some, query, self._remembered(some))
        return total

    def _contrasted(self, count: int) -> Tensor:
        """The rows of a batch that take part in the contrastive losses. `[G]`"""
        return torch.randperm(count, device=self.device)[: self.options.gal_rows or count]

    def _next_item(self, states: Tensor, targets: Tensor) -> Tensor:
        """L0."""
        rows = self._item_rows()[1:]
        if self.options.loss_vocab == "full":
            rows = torch.cat([rows, self.text_rows * self.text_scale])
        return item_cross_entropy(states, rows, targets - 1)

    @torch.no_grad()
    def _remembered(self, pairs: Pairs) -> dict[View, Tensor]:
        """The momentum copy's encodings. `[G, D]` each"""
        views = self.plan.memory_views
        with self._autocast():
            ((_, means),) = self.contrast.copy(self.reader, self.views.read([(pairs, views)]))
        return dict(zip(views, means.chunk(len(views)), strict=True))

    # -- training ----------------------------------------------------------------------

    def start_epoch(self, epoch: int) -> None:
        """Neighbours are drawn anew every epoch."""
        self.epoch, self._spread = epoch, []

    def end_step(self) -> None:
        """The momentum copy follows once an optimiser step."""
        if self.plan.terms:
            self.contrast.copy.follow(self.reader)

    def epoch_log(self) -> dict[str, float]:
        """Mean cosine between users of a batch, and their uniformity."""
        if not self._spread:
            return {}
        cosine, uniformity = (sum(values) / len(values) for values in zip(*self._spread, strict=True))
        return {"batch_cosine": round(cosine, 5), "uniformity": round(uniformity, 5)}

    # -- scoring -----------------------------------------------------------------------

    def forward(self, interaction: Any) -> Tensor:
        """Scores of all items, padding at -inf. `[B, N]`"""
        reading = self.views.read([(self._pairs(interaction), ["u2"])])
        with self._autocast():
            ((states, _),) = self.reader(reading)
            state = self._decode(states, reading.packs[0])
        scores: Tensor = state @ self._item_rows().T
        scores[:, 0] = -torch.inf
        return scores

    def predict(self, interaction: Any) -> Tensor:
        """Score of each row's item. `[B]`"""
        return self.forward(interaction).gather(1, interaction[self.ITEM_ID].unsqueeze(1)).squeeze(1)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items for each row. `[B * N]`"""
        return self.forward(interaction).view(-1)

    @torch.no_grad()
    def encodings(self, interaction: Any, views: list[View]) -> dict[View, Tensor]:
        """Unit encodings of the given views, as Fig. 4 draws them. `[B, D]` each"""
        pairs = self._pairs(interaction, interaction[self.POS_ITEM_ID])
        with self._autocast():
            ((_, means),) = self.reader(self.views.read([(pairs, views)]))
        parts = F.normalize(means, dim=1).chunk(len(views))
        return dict(zip(views, parts, strict=True))

    def reopened_names(self) -> set[str]:
        """Weights that checkpoints leave out: a frozen backbone opens from its source again."""
        if not self.options.lora:
            return set()
        opened = ("reader.words.", "reader.encoder.", "decoder.", "text_rows")
        return {
            name
            for name, weight in self.named_parameters(remove_duplicate=False)
            if name.startswith(opened) and not weight.requires_grad
        }

    @property
    def notes(self) -> list[str]:
        """What a reader of this model's row must know."""
        options = self.options
        found = [
            f"backbone {self.backbone_name}",
            f"source {options.source}, user_row {options.user_row}",
            f"second hop: {options.hop2_neighbors} a neighbour, {options.hop2_cap} in all",
        ]
        if options.rows_per_epoch:
            found.append(f"{options.rows_per_epoch:,} pairs an epoch")
        if self.plan.terms and options.gal_rows:
            found.append(f"{options.gal_rows} rows of a batch of {options.train_batch_size} contrasted")
        if options.user_row == "static":
            found.append("user_row static: a user's row was made from her training target too")
        return found
