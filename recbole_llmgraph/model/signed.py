"""What models of liked and disliked ratings share: graph of the liked, negatives, attention, scores.

    w = q' tanh(W x + c);  (a_p, a_n) = softmax(w_p, w_n);  Z = a_p Z_p + a_n Z_n;  s(u, i) = Z_u . Z_i

with 40 negatives j a rating, P(j) ~ d_j^0.75, never one that the user rated, liked or not.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.graph.bipartite import bipartite_adjacency
from recbole_llmgraph.graph.negatives import DegreeNegatives
from recbole_llmgraph.host.dataset import seen_ratings
from recbole_llmgraph.host.models import InputType, config_values, read_settings
from recbole_llmgraph.model.inner_product import InnerProductRecommender
from recbole_llmgraph.train.settings import TrainSettings


class SignedRecommender(InnerProductRecommender):
    """Base of models that read likes and dislikes; those that extend it make `attention` and `query`.

    Shapes: U users and N items, padding (id 0) included and without edges; width d; a batch has B ratings
    with k negatives each; nodes are users, then items.
    """

    input_type = InputType.POINTWISE
    settings: ClassVar[Any]
    batching: ClassVar[str] = "uniform"
    attention: nn.Linear
    query: nn.Linear

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset: ratings, and an oracle's edges."""
        super().__init__(config, dataset)
        self.options: Any = read_settings(self.settings, config)
        self.RATING = config["RATING_FIELD"]
        rows = dataset.inter_feat
        if self.RATING not in rows:
            name = type(self).__name__
            raise UserError(
                f"{name} needs ratings: type --protocol rate (or sign), or load the rating column"
            )
        users, items = rows[self.USER_ID], rows[self.ITEM_ID]
        self.likes = self.graph_of(dataset, rows[self.RATING] > self.options.liked_above)
        self.negatives = DegreeNegatives(
            self._degrees(dataset), users, items, self.n_users, alpha=self.options.negative_power
        )

    @classmethod
    def recbole_config(cls, settings: TrainSettings) -> dict[str, Any]:
        """Config keys: every rating is a row; negatives are drawn here, not by RecBole."""
        return {**config_values(settings), "train_neg_sample_args": None, "train_ratings": "all"}

    def graph_of(self, dataset: Any, chosen: Tensor) -> Any:
        """D^-1/2 A D^-1/2 of the chosen training ratings. `[U + N, U + N]`"""
        rows = dataset.inter_feat
        return bipartite_adjacency(
            rows[self.USER_ID][chosen], rows[self.ITEM_ID][chosen], self.n_users, self.n_items
        )

    def _degrees(self, dataset: Any) -> Tensor:
        """Training ratings of every item, of either sign, the oracle's edges apart. `[N]`"""
        seen = seen_ratings(dataset)
        items = torch.from_numpy(seen.items) if seen else dataset.inter_feat[self.ITEM_ID]
        return torch.bincount(items, minlength=self.n_items)

    @abstractmethod
    def fused(self) -> Tensor:
        """Z of all nodes. `[U + N, d]`"""

    def _fuse(self, z: Tensor, v: Tensor) -> Tensor:
        """a_p z + a_n v, where softmax over two weights is a sigmoid of their difference. `[U + N, d]`"""
        drop = self.options.attention_dropout
        weights = [self.query(F.dropout(torch.tanh(self.attention(x)), drop, self.training)) for x in (z, v)]
        liking = torch.sigmoid(weights[0] - weights[1])  # [U + N, 1]
        return v + liking * (z - v)

    def draw(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Users `[B]`, whether they liked `[B]`, and each row's item before new negatives `[B, 1 + k]`."""
        users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        liked = interaction[self.RATING] > self.options.liked_above
        drawn = torch.cat([items.unsqueeze(1), self.negatives(users, self.options.n_negatives)], dim=1)
        return users, liked, drawn

    def named(self, users: Tensor, items: Tensor) -> Tensor:
        """How often `[B]` users and `[B, 1 + k]` items name each node; with `reg_rows: once`, whether."""
        named = torch.cat([users, items.reshape(-1) + self.n_users])
        counts = torch.bincount(named, minlength=self.n_users + self.n_items)
        return counts.clamp(max=1) if self.options.reg_rows == "once" else counts

    # -- scores ------------------------------------------------------------------------

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Users and items of Z."""
        users, items = self.fused().split([self.n_users, self.n_items])
        return users, items
