"""Popularity: every user is offered what the training part holds most often.

RecBole's own `Pop` counts an item once a batch however often it occurs there (`cnt[item] = cnt[item] + 1`),
and counts the sampled negatives too. Here every training interaction counts once.
"""

from typing import Any, ClassVar

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from recbole_llmgraph.host import originals
from recbole_llmgraph.host.models import config_values
from recbole_llmgraph.train.settings import TrainSettings


class PopSettings(TrainSettings):
    """Settings of Pop: one pass over the data, nothing to select."""

    epochs: PositiveInt = 1
    eval_step: NonNegativeInt = 0
    train_batch_size: PositiveInt = 65536


#: Nothing to sweep.
search_space: dict[str, list[Any]] = {}


class Pop(originals.Pop):
    """Popularity. Counts are part of the state, so a checkpoint keeps them.

    Shapes: N items with padding; `item_cnt` is `[N, 1]`.
    """

    settings: ClassVar[type[PopSettings]] = PopSettings
    batching: ClassVar[str] = "uniform"

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        counts = self.item_cnt
        del self.item_cnt, self.max_cnt
        self.register_buffer("item_cnt", counts)
        self.register_buffer("max_cnt", torch.ones_like(counts[0]))

    @classmethod
    def recbole_config(cls, settings: PopSettings) -> dict[str, Any]:
        """Config keys of these settings; no negatives, as they would be counted."""
        return {**config_values(settings), "train_neg_sample_args": None}

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Count the batch; the loss is zero."""
        items = interaction[self.ITEM_ID]
        self.item_cnt.index_add_(0, items, self.item_cnt.new_ones(len(items), 1))
        self.max_cnt = self.item_cnt.amax(dim=0).clamp(min=1)
        nothing: Tensor = (self.fake_loss * 0).sum()
        return nothing
