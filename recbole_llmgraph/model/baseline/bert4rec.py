"""BERT4Rec, RecBole's own: items are masked and told from both sides.

Paper: Sun et al., "BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from
Transformer", CIKM 2019.

Padding gets attention weight exp(-10000) = 0, so histories without it give the same loss and scores; when a
history is scored, RecBole appends the mask and drops the first slot, which keeps the width. The loss scores
the masked positions alone. As in RecBole, the first slot is never predicted (its index doubles as padding);
a batch of one-item histories therefore has no loss, where RecBole's mean over nothing is NaN.
"""

from math import ceil
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host import originals
from recbole_llmgraph.loss.cross_entropy import item_cross_entropy
from recbole_llmgraph.model.baseline.encoder import fuse_gelu
from recbole_llmgraph.model.baseline.sasrec import TransformerSettings, transformer_config


class BERT4RecSettings(TransformerSettings):
    """Settings of BERT4Rec."""

    hidden_dropout_prob: float = Field(default=0.2, ge=0, lt=1)
    attn_dropout_prob: float = Field(default=0.2, ge=0, lt=1)
    mask_ratio: float = Field(default=0.2, gt=0, lt=1)
    """Chance of an item to be masked; also bounds masked items a row to this share of `max_history`."""
    ft_ratio: float = Field(default=0.5, ge=0, le=1)
    """Share of batches that mask the last item alone, as scoring does."""

    @model_validator(mode="after")
    def _room_for_a_mask(self) -> Self:
        if int(self.mask_ratio * self.max_history) < 1:
            raise UserError(
                f"BERT4Rec: mask_ratio {self.mask_ratio} of max_history {self.max_history} masks no item. "
                f"Type: --set BERT4Rec.max_history={ceil(1 / self.mask_ratio)} or more"
            )
        return self


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [3e-4, 1e-3, 2e-3],
    "mask_ratio": [0.2, 0.4, 0.6],
    "hidden_dropout_prob": [0.1, 0.2, 0.4],
}


class BERT4Rec(originals.BERT4Rec):
    """Bidirectional self-attention over masked histories.

    Shapes: B rows, histories of at most L items, at most M masked positions a row, width d.
    """

    settings: ClassVar[type[BERT4RecSettings]] = BERT4RecSettings
    batching: ClassVar[str] = "by_length"

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        self.accelerated = config["accelerate"] is not False
        if self.accelerated:
            fuse_gelu(self.trm_encoder)

    @classmethod
    def recbole_config(cls, settings: BERT4RecSettings) -> dict[str, Any]:
        """Config keys of these settings; RecBole masks rows in its loader."""
        return {**transformer_config(settings), "transform": "mask_itemseq"}

    def reconstruct_test_data(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """Append the mask behind each history and drop the first slot. `[B, L], [B] -> [B, L]`"""
        masked = torch.cat([item_seq, torch.zeros_like(item_seq[:, :1])], dim=1)
        masked.scatter_(1, item_seq_len.unsqueeze(1), self.mask_token)
        return masked[:, 1:]

    def calculate_loss(self, interaction: Any) -> Tensor:
        """RecBole's loss, with scores of the masked positions only."""
        if self.loss_type != "CE" or not self.accelerated:
            plain: Tensor = super().calculate_loss(interaction)
            return plain
        positions = interaction[self.MASK_INDEX]  # [B, M]
        rows, columns = (positions > 0).nonzero(as_tuple=True)
        states = self.forward(interaction[self.MASK_ITEM_SEQ])[rows, positions[rows, columns]]
        targets = interaction[self.POS_ITEMS][rows, columns]
        items = self.item_embedding.weight[: self.n_items]
        return item_cross_entropy(states, items, targets, self.output_bias)
