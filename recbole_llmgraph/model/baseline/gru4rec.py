"""GRU4Rec, RecBole's own.

Paper: Tan et al., "Improved Recurrent Neural Networks for Session-based Recommendations", DLRS 2016.

A recurrent net never reads what stands behind a position, so histories without their right padding give the
same loss and scores.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import Tensor

from recbole_llmgraph.host import originals
from recbole_llmgraph.host.models import config_values
from recbole_llmgraph.loss.cross_entropy import item_cross_entropy
from recbole_llmgraph.train.settings import SequenceSettings


class GRU4RecSettings(SequenceSettings):
    """Settings of GRU4Rec."""

    embedding_size: PositiveInt = 64
    hidden_size: PositiveInt = 128
    """Width of the recurrent state."""
    n_layers: PositiveInt = 1
    """Recurrent layers (RecBole's `num_layers`)."""
    dropout_prob: float = Field(default=0.3, ge=0, lt=1)
    """On item vectors."""
    loss_type: Literal["CE", "BPR"] = "CE"


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [5e-4, 1e-3, 2e-3],
    "dropout_prob": [0.1, 0.3, 0.5],
    "hidden_size": [64, 128, 256],
}


class GRU4Rec(originals.GRU4Rec):
    """Recurrent sequential recommendation."""

    settings: ClassVar[type[GRU4RecSettings]] = GRU4RecSettings
    batching: ClassVar[str] = "by_length"

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        self.accelerated = config["accelerate"] is not False

    @classmethod
    def recbole_config(cls, settings: GRU4RecSettings) -> dict[str, Any]:
        """Config keys of these settings; cross entropy wants no negatives."""
        values = {**config_values(settings), "num_layers": settings.n_layers}
        return {**values, "train_neg_sample_args": None} if settings.loss_type == "CE" else values

    def calculate_loss(self, interaction: Any) -> Tensor:
        """RecBole's loss; its cross entropy in tiles."""
        if self.loss_type == "CE" and self.accelerated:
            states = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
            return item_cross_entropy(states, self.item_embedding.weight, interaction[self.POS_ITEM_ID])
        loss: Tensor = super().calculate_loss(interaction)
        return loss
