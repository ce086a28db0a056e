"""Caser, RecBole's own: convolutions over the last few items.

Paper: Tang and Wang, "Personalized Top-N Sequential Recommendation via Convolutional Sequence Embedding",
WSDM 2018.

Its vertical convolution spans all slots and its horizontal ones count padding rows as windows, so padding
stays: `max_history` is the paper's L, small by design. As in RecBole, one target follows each window (T = 1).
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from recbole_llmgraph.host import originals
from recbole_llmgraph.host.models import config_values
from recbole_llmgraph.loss.cross_entropy import item_cross_entropy
from recbole_llmgraph.train.settings import SequenceSettings


class CaserSettings(SequenceSettings):
    """Settings of Caser."""

    max_history: PositiveInt = 5
    """L, items under the convolutions."""
    embedding_size: PositiveInt = 64
    nv: PositiveInt = 4
    """Vertical filters."""
    nh: PositiveInt = 16
    """Horizontal filters of each height."""
    dropout_prob: float = Field(default=0.5, ge=0, lt=1)
    """On what the convolutions found."""
    reg_weight: NonNegativeFloat = 1e-6
    """Weight of the tables' norms in the loss."""
    loss_type: Literal["CE", "BPR"] = "CE"


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [5e-4, 1e-3, 2e-3],
    "max_history": [3, 5, 10],
    "nh": [4, 8, 16],
    "dropout_prob": [0.3, 0.5],
}


class Caser(originals.Caser):
    """Convolutional sequence embedding with a user vector beside it."""

    settings: ClassVar[type[CaserSettings]] = CaserSettings
    batching: ClassVar[str] = "uniform"

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        self.accelerated = config["accelerate"] is not False

    @classmethod
    def recbole_config(cls, settings: CaserSettings) -> dict[str, Any]:
        """Config keys of these settings; cross entropy wants no negatives."""
        values = config_values(settings)
        return {**values, "train_neg_sample_args": None} if settings.loss_type == "CE" else values

    def calculate_loss(self, interaction: Any) -> Tensor:
        """RecBole's loss; its cross entropy in tiles."""
        if self.loss_type != "CE" or not self.accelerated:
            plain: Tensor = super().calculate_loss(interaction)
            return plain
        states = self.forward(interaction[self.USER_ID], interaction[self.ITEM_SEQ])
        items = self.item_embedding.weight
        tables = (self.user_embedding, self.item_embedding, self.conv_v, self.fc1, self.fc2)
        penalty: Tensor = self.reg_weight * self.reg_loss([table.weight for table in tables])
        penalty = penalty + self.reg_loss_conv_h()
        return item_cross_entropy(states, items, interaction[self.POS_ITEM_ID]) + penalty
