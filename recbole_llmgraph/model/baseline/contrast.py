"""What XSimGCL, SimGCL, SGL and LAGCL4Rec share: a graph encoder, BPR and a contrastive loss on a batch.

    L = mean -ln(1e-5 + sigma(s_p - s_n)) + lambda (CL_users + CL_items) + reg (|U_B| + |P_B|) / B
    CL = -ln e^(c_aa/tau) / sum_b e^(c_ab/tau),  c = cosine of two views, over the batch's distinct nodes

as in SELFRec and in LAGCL4Rec's release: |U_B| and |P_B| are norms of the encoded users and items of the
batch's rows. Negatives are uniform over what a user did not rate, drawn exactly and anew for every row.
"""

from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from recbole_llmgraph.graph.encoder import LightEncoder
from recbole_llmgraph.graph.group_negatives import GroupNegatives
from recbole_llmgraph.graph.sampled import SampledPairs
from recbole_llmgraph.host.dataset import seen_ratings
from recbole_llmgraph.host.models import InputType, config_values, read_settings
from recbole_llmgraph.loss.bpr import floored_bpr
from recbole_llmgraph.loss.group_infonce import COLDEST, Temperatures, group_infonce
from recbole_llmgraph.model.inner_product import InnerProductRecommender
from recbole_llmgraph.model.tables import without_padding
from recbole_llmgraph.train.settings import TrainSettings


class ContrastSettings(TrainSettings):
    """Settings that graph contrastive models share."""

    embedding_size: PositiveInt = 64
    n_layers: PositiveInt = 2
    """L."""
    reg_weight: NonNegativeFloat = 1e-4
    contrast_weight: NonNegativeFloat = 0.1
    """lambda."""
    tau: float = Field(default=0.2, ge=COLDEST)
    """Temperature of the contrast."""
    contrast_reduction: Literal["mean", "sum"] = "mean"
    """Whether nodes' contrastive losses are averaged or added up; BPR is a mean."""


class ContrastiveGCN(InnerProductRecommender):
    """Base of graph contrastive models.

    Shapes: U users and N items, padding included and without edges; n = U + N nodes, width d; B rows.
    """

    input_type = InputType.POINTWISE
    settings: ClassVar[type[ContrastSettings]] = ContrastSettings
    batching: ClassVar[str] = "uniform"
    keeps_candidates: ClassVar[bool] = True

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        self.options: Any = read_settings(self.settings, config)
        users, items = dataset.inter_feat[self.USER_ID], dataset.inter_feat[self.ITEM_ID]
        self.encoder = self.make_encoder(users, items)
        self.negatives = self.make_negatives(dataset, *met_pairs(dataset))
        self.nodes = nn.Embedding(self.n_users + self.n_items, self.options.embedding_size)
        for side in self.nodes.weight.data.split([self.n_users, self.n_items]):  # two tables, as published
            nn.init.xavier_uniform_(side)

    @classmethod
    def recbole_config(cls, settings: ContrastSettings) -> dict[str, Any]:
        """Config keys; negatives are drawn here, not by RecBole."""
        return {**config_values(settings), "train_neg_sample_args": None}

    def make_encoder(self, users: Tensor, items: Tensor) -> LightEncoder:
        """Encoder of the learnt pairs; each model names its own."""
        return LightEncoder(users, items, self.n_users, self.n_items, self.options.n_layers)

    def make_negatives(self, dataset: Any, users: Tensor, items: Tensor) -> GroupNegatives:
        """Sampler of what users did not meet: one group of all items."""
        return GroupNegatives(torch.zeros(self.n_items, dtype=torch.long), users, items, self.n_users)

    # -- losses ------------------------------------------------------------------------

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of one batch of liked pairs."""
        self.forget()
        users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        views = self.encoder(self.nodes.weight)
        pairs = SampledPairs(users, self.drawn_items(users, items), self.n_users, self.n_items)
        loss = self.ranking_loss(pairs.scores(views.final), pairs.items)
        loss = loss + self._penalty(views.final, users, items)
        if views.anchor is not None and views.other is not None and self.options.contrast_weight:
            for offset, ids in ((0, users.unique()), (self.n_users, items.unique())):
                rows = ids + offset
                one = self.contrast(views.anchor[rows], views.other[rows], rows)
                whole = len(rows) if self.options.contrast_reduction == "sum" else 1
                loss = loss + self.options.contrast_weight * whole * one
        return loss

    def drawn_items(self, users: Tensor, items: Tensor) -> Tensor:
        """Each row's positive item, then its negatives. `[B], [B] -> [B, 1 + k]`"""
        return torch.stack([items, self.negatives.uniform(users)], dim=1)

    def ranking_loss(self, scores: Tensor, drawn: Tensor) -> Tensor:
        """BPR of the positives against one negative; scores of `drawn_items`. `[B, 2], [B, 2]`"""
        return floored_bpr(scores[:, 0], scores[:, 1])

    def contrast(self, anchor: Tensor, other: Tensor, nodes: Tensor) -> Tensor:
        """Mean contrastive loss of nodes (numbers `[m]`) of one side. `[m, d], [m, d]`"""
        tau = self.options.tau
        return group_infonce(anchor, other, None, Temperatures(tau, tau, tau), 1.0)

    def _penalty(self, final: Tensor, users: Tensor, items: Tensor) -> Tensor:
        """The penalty reg (|U_B| + |P_B|) / B, Frobenius norms over the batch's rows."""
        squares = final.square().sum(1)
        penalty = squares.new_zeros(())
        for rows in (users, items + self.n_users):
            counts = torch.bincount(rows, minlength=len(squares))
            penalty = penalty + (squares * counts).sum().sqrt()
        return penalty * (float(self.options.reg_weight) / len(users))

    # -- scores ------------------------------------------------------------------------

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Users and items without noise."""
        users, items = self.encoder.clean(self.nodes.weight).split([self.n_users, self.n_items])
        return users, items

    def train(self, mode: bool = True) -> Self:
        """Switch mode, at every epoch: draw its graphs."""
        super().train(mode)
        if mode:
            self.encoder.new_epoch()
        return self

    @torch.no_grad()
    def item_table(self) -> Tensor:
        """Item vectors that later stages read; the padding row is zero. `[N, d]`"""
        return without_padding(self.tables()[1])

    @torch.no_grad()
    def user_table(self) -> Tensor:
        """User vectors that later stages read; the padding row is zero. `[U, d]`"""
        return without_padding(self.tables()[0])


def check_layer(contrast_layer: int, n_layers: int) -> None:
    """Refuse a layer to contrast with that there is not.

    Raises:
        ValueError: which settings turn into an error of the user's.
    """
    if contrast_layer > n_layers:
        raise ValueError(f"contrast_layer {contrast_layer} is above n_layers {n_layers}")


def met_pairs(dataset: Any) -> tuple[Tensor, Tensor]:
    """Every (user, item) that training may know: ratings of either sign, or the learnt pairs. `[E], [E]`"""
    seen = seen_ratings(dataset)
    if seen is None:
        return dataset.inter_feat[dataset.uid_field], dataset.inter_feat[dataset.iid_field]
    return torch.from_numpy(seen.users).long(), torch.from_numpy(seen.items).long()
