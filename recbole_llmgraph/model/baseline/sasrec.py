"""SASRec, RecBole's own, read at the end of each history only.

Paper: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.

Loss and scores are RecBole's: cross entropy over all items (or BPR) at the last position of every prefix.
Accelerated (`accelerate: true`), histories lose their common padding and the last layer is computed at the
last position alone; both are exact, since attention is causal and padding stands on the right.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from recbole_llmgraph.host import originals
from recbole_llmgraph.host.dataset import training_histories
from recbole_llmgraph.host.models import config_values
from recbole_llmgraph.loss.cross_entropy import item_cross_entropy
from recbole_llmgraph.model.baseline.encoder import encode_at, fuse_gelu
from recbole_llmgraph.model.tables import without_padding
from recbole_llmgraph.train.settings import SequenceSettings

#: Histories encoded at once for a table of users.
USERS_AT_ONCE = 1024


class TransformerSettings(SequenceSettings):
    """Shape of RecBole's transformer models."""

    embedding_size: PositiveInt = 64
    """Width d of items and of every layer (RecBole's `hidden_size`)."""
    n_layers: PositiveInt = 2
    n_heads: PositiveInt = 2
    inner_size: PositiveInt = 256
    """Width inside the feed-forward net."""
    hidden_dropout_prob: float = Field(default=0.5, ge=0, lt=1)
    attn_dropout_prob: float = Field(default=0.5, ge=0, lt=1)
    hidden_act: Literal["gelu", "relu", "swish", "tanh", "sigmoid"] = "gelu"
    layer_norm_eps: PositiveFloat = 1e-12
    initializer_range: PositiveFloat = 0.02
    """Standard deviation of initial weights."""
    loss_type: Literal["CE", "BPR"] = "CE"


def transformer_config(settings: TransformerSettings) -> dict[str, Any]:
    """Config keys of a transformer model; cross entropy wants no negatives."""
    values = {**config_values(settings), "hidden_size": settings.embedding_size}
    if settings.loss_type == "CE":
        values["train_neg_sample_args"] = None
    return values


class SASRecSettings(TransformerSettings):
    """Settings of SASRec."""


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [3e-4, 1e-3, 3e-3],
    "hidden_dropout_prob": [0.2, 0.3, 0.5],
    "attn_dropout_prob": [0.2, 0.3, 0.5],
    "n_layers": [1, 2, 3],
    "embedding_size": [32, 64, 128],
}


class SASRec(originals.SASRec):
    """Self-attentive sequential recommendation.

    Shapes: B rows, histories of at most L items, N items with padding, width d.
    """

    settings: ClassVar[type[SASRecSettings]] = SASRecSettings
    batching: ClassVar[str] = "by_length"

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        self.accelerated = config["accelerate"] is not False
        #: The training part, from which `user_table` reads histories.
        self.training_part = dataset
        if self.accelerated:
            fuse_gelu(self.trm_encoder)

    @classmethod
    def recbole_config(cls, settings: SASRecSettings) -> dict[str, Any]:
        """Config keys of these settings."""
        return transformer_config(settings)

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """State at the end of each history. `[B, L], [B] -> [B, d]`"""
        if not self.accelerated:
            plain: Tensor = super().forward(item_seq, item_seq_len)
            return plain
        states: Tensor = self.item_embedding(item_seq) + self.position_embedding.weight[: item_seq.shape[1]]
        states = self.dropout(self.LayerNorm(states))
        return encode_at(self.trm_encoder, states, self.get_attention_mask(item_seq), item_seq_len - 1)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """RecBole's loss; its cross entropy in tiles."""
        if self.loss_type == "CE" and self.accelerated:
            states = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
            return item_cross_entropy(states, self.item_embedding.weight, interaction[self.POS_ITEM_ID])
        loss: Tensor = super().calculate_loss(interaction)
        return loss

    @torch.no_grad()
    def item_table(self) -> Tensor:
        """Item vectors that later stages read (E^S); the padding row is zero. `[N, d]`"""
        return without_padding(self.item_embedding.weight[: self.n_items])

    @torch.no_grad()
    def user_table(self) -> Tensor:
        """State after each user's training items, for later stages; the padding row is zero. `[U, d]`"""
        histories, lengths = (
            torch.from_numpy(part).to(self.device)
            for part in training_histories(self.training_part, self.max_seq_length)
        )
        table = torch.zeros(len(lengths), self.hidden_size, device=self.device)
        for rows in lengths.nonzero().squeeze(1).split(USERS_AT_ONCE):
            width = int(lengths[rows].max())
            table[rows] = self.forward(histories[rows, :width], lengths[rows])
        return table
