"""S3-Rec, RecBole's own, both stages in one run.

Paper: Zhou et al., "S3-Rec: Self-Supervised Learning for Sequential Recommendation with Mutual Information
Maximization", CIKM 2020.

    pre-training   L = w_aap L_AAP + w_mip L_MIP + w_map L_MAP + w_sp L_SP      (sums over the batch)
    fine-tuning    L = cross entropy (or BPR) of the item after each history, causal attention

RecBole trains the stages as two runs joined by a checkpoint that pickles its whole configuration, which
weights-only loading refuses (s3rec.py:120). Here one model goes through both. Its losses are RecBole's:
accelerated, the same terms are computed where they count, on histories without common padding. As in RecBole,
pre-training puts histories on the right (position embeddings of the last slots) and fine-tuning on the left.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host import originals
from recbole_llmgraph.loss.cross_entropy import item_cross_entropy, label_cross_entropy
from recbole_llmgraph.model.baseline.encoder import encode_at, fuse_gelu
from recbole_llmgraph.model.baseline.s3rec_rows import HiddenRows, hide
from recbole_llmgraph.model.baseline.sasrec import TransformerSettings, transformer_config
from recbole_llmgraph.train.settings import Phase


class S3RecSettings(TransformerSettings):
    """Settings of S3-Rec; `epochs` are those of fine-tuning."""

    pretrain_epochs: NonNegativeInt = 100
    item_attribute: str = "attributes"
    """Column of the item file with each item's attributes."""
    mask_ratio: float = Field(default=0.2, gt=0, lt=1)
    """Chance of an item to be hidden in pre-training."""
    aap_weight: NonNegativeFloat = 0.2
    """Weight of telling attributes of seen items."""
    mip_weight: NonNegativeFloat = 1.0
    """Weight of telling hidden items."""
    map_weight: NonNegativeFloat = 1.0
    """Weight of telling attributes of hidden items."""
    sp_weight: NonNegativeFloat = 0.5
    """Weight of telling a hidden segment from a foreign one."""


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [3e-4, 1e-3],
    "pretrain_epochs": [0, 10, 30, 100],
    "mask_ratio": [0.1, 0.2, 0.4],
    "hidden_dropout_prob": [0.2, 0.3, 0.5],
}


class S3Rec(originals.S3Rec):
    """Self-supervised self-attention.

    Shapes: B rows, histories of at most W <= L items, N items with padding (mask token N), A attributes.
    """

    settings: ClassVar[type[S3RecSettings]] = S3RecSettings
    batching: ClassVar[str] = "by_length"

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset.

        Raises:
            UserError: when the item file has no such column of attributes.
        """
        field = config["item_attribute"]
        if field not in dataset.field2type or dataset.item_feat is None:
            raise UserError(
                f"S3Rec needs item attributes: {dataset.dataset_name}.item has no column '{field}'. "
                "Type: --set S3Rec.item_attribute=<a token or token_seq column>"
            )
        super().__init__(config, dataset)
        self.accelerated = config["accelerate"] is not False
        if self.accelerated:
            fuse_gelu(self.trm_encoder)
        labels = _each_once(self.item_feat[field].reshape(len(self.item_feat), -1) - 1)
        self.register_buffer("item_labels", labels, persistent=False)

    @classmethod
    def recbole_config(cls, settings: S3RecSettings) -> dict[str, Any]:
        """Config keys of these settings, and the attribute column to load."""
        columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", settings.item_attribute]}
        return {**transformer_config(settings), "load_col": columns, "train_stage": "pretrain"}

    @classmethod
    def phases(cls, settings: S3RecSettings) -> list[Phase]:
        """Pre-training to its last epoch, then fine-tuning to the best one."""
        stages = [Phase("finetune", settings.epochs)]
        if settings.pretrain_epochs:
            stages.insert(0, Phase("pretrain", settings.pretrain_epochs, selects=False))
        return stages

    def enter_phase(self, name: str) -> None:
        """Switch to the loss of `pretrain` or `finetune`."""
        self.train_stage = name
        loss: nn.Module = nn.BCEWithLogitsLoss(reduction="none")
        if name == "finetune":
            loss = originals.BPRLoss() if self.loss_type == "BPR" else nn.CrossEntropyLoss()
        self.loss_fct = loss

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of the present stage."""
        histories, lengths = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        if self.accelerated and self.train_stage == "pretrain":
            return self.pretraining_loss(hide(histories, lengths, self.mask_token, self.mask_ratio))
        if self.accelerated and self.loss_type == "CE":
            states = self._embed(histories, first_slot=0)
            mask = self.get_attention_mask(histories)
            states = encode_at(self.trm_encoder, states, mask, lengths - 1)
            return item_cross_entropy(states, self.item_embedding.weight, interaction[self.POS_ITEM_ID])
        loss: Tensor = super().calculate_loss(interaction)
        return loss

    def pretraining_loss(self, rows: HiddenRows) -> Tensor:
        """Weighted sum of the four losses: attributes, items, attributes of hidden items, segments."""
        states = self._embed(rows.masked, self.max_seq_length - rows.masked.shape[1])
        mask = self.get_attention_mask(rows.masked, bidirectional=True)
        states = self.trm_encoder(states, mask, output_all_encoded_layers=False)[-1]
        hidden = rows.masked == self.mask_token
        seen = (rows.masked > 0) & ~hidden
        items = self._item_loss(states[hidden], rows.sequence[hidden], rows.negatives[hidden])
        seen_attributes = self._attribute_loss(self.aap_norm(states[seen]), rows.sequence[seen])
        hidden_attributes = self._attribute_loss(self.map_norm(states[hidden]), rows.sequence[hidden])
        attributes = self.aap_weight * seen_attributes + self.map_weight * hidden_attributes
        loss: Tensor = attributes + self.mip_weight * items + self.sp_weight * self._segment_loss(rows)
        return loss

    def _embed(self, histories: Tensor, first_slot: int) -> Tensor:
        """Items and positions, normalised. `[B, W] -> [B, W, d]`"""
        slots = slice(first_slot, first_slot + histories.shape[1])
        states = self.item_embedding(histories) + self.position_embedding.weight[slots]
        embedded: Tensor = self.dropout(self.LayerNorm(states))
        return embedded

    def _attribute_loss(self, states: Tensor, items: Tensor) -> Tensor:
        """Binary cross entropy of every attribute of every item. `[M, d], [M]`"""
        return label_cross_entropy(states, self.feature_embedding.weight, self.item_labels[items])

    def _item_loss(self, states: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
        """Hidden items against items the history does not hold. `[M, d], [M], [M]`"""
        states = self.mip_norm(states)
        for_right = torch.sigmoid((states * self.item_embedding(right)).sum(-1))
        for_wrong = torch.sigmoid((states * self.item_embedding(wrong)).sum(-1))
        return F.softplus(for_wrong - for_right).sum()

    def _segment_loss(self, rows: HiddenRows) -> Tensor:
        """The segment against a foreign one, each read at the last slot."""
        context = self.sp_norm(self._last_state(rows.without_segment))
        for_right = torch.sigmoid((context * self._last_state(rows.segment)).sum(-1))
        for_wrong = torch.sigmoid((context * self._last_state(rows.foreign)).sum(-1))
        return F.softplus(for_wrong - for_right).sum()

    def _last_state(self, histories: Tensor) -> Tensor:
        """Bidirectional state of the last slot. `[B, W] -> [B, d]`"""
        width = histories.shape[1]
        states = self._embed(histories, self.max_seq_length - width)
        mask = self.get_attention_mask(histories, bidirectional=True)
        return encode_at(self.trm_encoder, states, mask, torch.full_like(histories[:, 0], width - 1))


def _each_once(labels: Tensor) -> Tensor:
    """The same labels a row, repeated ones replaced by -1. `[N, T]`"""
    ordered = labels.sort(dim=1).values
    repeated = torch.zeros_like(ordered, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return ordered.masked_fill(repeated, -1)
