"""What multimodal graph models share: features of items by modality, and scores from two tables.

Text features are always there; image features where the dataset has them. A dataset without images is
trained on text alone, and its row says so.
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from recbole_llmgraph.artifact.tables import load_table, rows_for
from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.graph.knn import cosine_knn
from recbole_llmgraph.host.dataset import item_tokens, training_pairs
from recbole_llmgraph.host.models import InputType, config_values, read_settings
from recbole_llmgraph.model.inner_product import InnerProductRecommender
from recbole_llmgraph.model.needs import ItemFeature, Need, TextFeatures
from recbole_llmgraph.train.settings import TrainSettings


class MultimodalSettings(TrainSettings):
    """Settings of models that read item features; training as MMRec sets it for all of them."""

    epochs: PositiveInt = 1000
    train_batch_size: PositiveInt = 2048
    stopping_step: NonNegativeInt = 20
    valid_metric: str = "recall@20"
    embedding_size: PositiveInt = 64
    text_encoder: str = "auto"
    text_features: str = ""
    """File of item text vectors; the suite fills it."""
    image_features: str = ""
    """File of item image vectors; the suite fills it where a dataset has images."""


class MultimodalRecommender(InnerProductRecommender):
    """Base of models that read item features and score by an inner product of two tables.

    Shapes: U users and N items, padding (id 0) included and without features or edges; width d.
    """

    input_type = InputType.PAIRWISE
    settings: ClassVar[type[MultimodalSettings]] = MultimodalSettings
    batching: ClassVar[str] = "uniform"

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        self.options: Any = read_settings(self.settings, config)

    @classmethod
    def needs(cls, settings: MultimodalSettings) -> list[Need]:
        """Text features of items always; image features where the dataset has them."""
        return [
            TextFeatures("text_features", settings.text_encoder),
            ItemFeature("image_features", "image"),
        ]

    @classmethod
    def recbole_config(cls, settings: MultimodalSettings) -> dict[str, Any]:
        """Config keys; negatives are RecBole's uniform ones, one a positive."""
        return config_values(settings)

    def item_features(self, dataset: Any) -> dict[str, Tensor]:
        """Features by modality, `text` first, in the order of item ids; the padding row is zero. `[N, f]`"""
        name = type(self).__name__
        if not self.options.text_features:
            raise UserError(
                f"{name} needs text_features: pass config_dict=recbole_settings('{name}', dataset)"
            )
        tokens = item_tokens(dataset)
        files = {"text": self.options.text_features, "image": self.options.image_features}
        return {
            modality: rows_for(load_table(Path(file)), tokens).float()
            for modality, file in files.items()
            if file
        }

    def nearest_items(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Every item and its `knn_k` nearest by cosine, itself among them, each pair once. `[E], [E]`"""
        k, items = self.options.knn_k, self.n_items - 1
        if k > items:
            name = type(self).__name__
            raise UserError(f"{name}.knn_k={k}: there are {items} items; take at most {items}")
        neighbours = cosine_knn(features[1:], k) + 1
        rows = torch.arange(1, self.n_items, device=features.device)[:, None].expand_as(neighbours)
        pairs = torch.unique(
            rows * self.n_items + neighbours
        )  # an item without features lists itself k times
        return pairs // self.n_items, pairs % self.n_items

    def edges(self, dataset: Any) -> tuple[Tensor, Tensor]:
        """User and item of every training interaction. `[E], [E]`"""
        users, items = (torch.from_numpy(ids) for ids in training_pairs(dataset))
        return users, items

    def make_tables(self, width: int) -> tuple[nn.Embedding, nn.Embedding]:
        """Tables of users `[U, width]` and items `[N, d]`, drawn as Xavier."""
        tables = nn.Embedding(self.n_users, width), nn.Embedding(self.n_items, self.options.embedding_size)
        for table in tables:
            nn.init.xavier_uniform_(table.weight)
        return tables

    @abstractmethod
    def forward(self) -> tuple[Tensor, Tensor]:
        """Users `[U, d]` and items `[N, d]` as they are scored."""

    def vectors(self) -> tuple[Tensor, Tensor]:
        """What `forward` gives."""
        return self.forward()
