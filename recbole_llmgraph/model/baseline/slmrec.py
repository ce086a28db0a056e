"""SLMRec: self-supervised tasks on modality-specific views of the user-item graph.

Paper: Tao et al., "Self-supervised Learning for Multimedia Recommendation", IEEE Transactions on Multimedia,
2022.
Implementation behind most published multimodal rows, read for facts only: enoche/MMRec @e775373.

    e^id = mean_l A^l [x_u; x_i],   e^m = mean_l A^l [x_u; W_m norm(f_i^m) + b_m]
    A    = D^-1/2 [0 R; R' 0] D^-1/2
    z_u  = Linear_u [e_u^id ; e_u^m ...],  z_i = Linear_i [e_i^id ; e_i^m ...]         s(u, i) = z_u . z_i
    CE(a, b, t) = mean_b -log exp(a_b . b_b / t) / sum_b' exp(a_b . b_b' / t)          over a batch's rows
    L    = CE(norm z_u, norm z_i, tau) + alpha L_ssl

    FAC    (fine and coarse, of a batch's items) y = e_i^id; for each modality, images before text:
           y <- G_m y;  L_ssl += CE(y, H_m e_i^m, t)                                   vectors not normalised
    FD     (feature dropout) two graphs with dropout after every layer; CE of normalised z_u and of z_i
    FM     (feature masking) one of the items' views (ids among them) is zero, another in each graph; as FD
    FD+FM  both at once

Where an item or a user stands twice in a batch it is a negative of itself, as in the released code.

Deviations:

* In MMRec only FAC runs; the others read audio features and keys that it does not set. Here they read ids and
  the modalities there are.
* FAC of MMRec passes through two linear maps before text; one says the same.
* Scores are left without a sigmoid, which ranks alike.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.graph.bipartite import bipartite_adjacency
from recbole_llmgraph.graph.lightgcn import light_propagation
from recbole_llmgraph.host.models import InputType, config_values
from recbole_llmgraph.loss.cross_entropy import item_cross_entropy
from recbole_llmgraph.model.baseline.multimodal import MultimodalRecommender, MultimodalSettings

Task = Literal["FAC", "FD", "FM", "FD+FM", "none"]


class SLMRecSettings(MultimodalSettings):
    """Settings of SLMRec."""

    weight_decay: NonNegativeFloat = 1e-4
    n_layers: NonNegativeInt = 3
    tau: PositiveFloat = 0.2
    """Temperature of the main loss."""
    ssl_task: Task = "FAC"
    ssl_weight: NonNegativeFloat = 0.1
    """alpha, weight of the self-supervised task."""
    ssl_tau: PositiveFloat = 0.5
    """t, its temperature."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Of FD, after every layer."""


#: Values that sweeps try, in MMRec's ticks.
search_space: dict[str, list[Any]] = {
    "learning_rate": [1e-4, 1e-3, 1e-2],
    "ssl_weight": [0.01, 0.05, 0.1, 0.5, 1.0],
    "ssl_tau": [0.1, 0.2, 0.5, 1.0],
    "ssl_task": ["FAC", "FD", "FM", "FD+FM"],
    "n_layers": [1, 2, 3, 4],
}
#: The other tasks, and none.
ablations: dict[str, dict[str, Any]] = {
    "no_ssl": {"ssl_task": "none"},
    "feature_dropout": {"ssl_task": "FD"},
    "feature_masking": {"ssl_task": "FM"},
    "dropout_and_masking": {"ssl_task": "FD+FM"},
}


class SLMRec(MultimodalRecommender):
    """Self-supervised multimedia recommendation. M views: ids, then modalities."""

    input_type = InputType.POINTWISE
    settings: ClassVar[type[MultimodalSettings]] = SLMRecSettings

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        width = self.options.embedding_size
        self.adjacency = bipartite_adjacency(*self.edges(dataset), self.n_users, self.n_items)
        self.user_nodes, self.item_nodes = self.make_tables(width)
        features = self.item_features(dataset)
        self.modalities = [name for name in ("image", "text") if name in features]
        self.projections, self.heads, self.steps = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for name in self.modalities:
            table = F.normalize(features[name], dim=1)
            self.register_buffer(f"features_{name}", table, persistent=False)
            self.projections[name] = nn.Linear(table.shape[1], width)
            if self.options.ssl_task == "FAC":
                out = max(1, width // 2) if name == "text" else width
                self.steps[name], self.heads[name] = nn.Linear(width, out), nn.Linear(width, out)
        views = 1 + len(self.modalities)
        self.fuse_users, self.fuse_items = nn.Linear(views * width, width), nn.Linear(views * width, width)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)

    @classmethod
    def recbole_config(cls, settings: MultimodalSettings) -> dict[str, Any]:
        """Config keys; negatives are the other rows of a batch."""
        return {**config_values(settings), "train_neg_sample_args": None}

    def item_views(self) -> list[Tensor]:
        """Layer 0 of the items in every view, ids first. `[N, d]` each"""
        projected = [self.projections[name](getattr(self, f"features_{name}")) for name in self.modalities]
        return [self.item_nodes.weight, *projected]

    def spread(self, views: list[Tensor], dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """All views over the graph at once, each with the same users. `[U, M d]` and `[N, M d]`"""
        users = self.user_nodes.weight.repeat(1, len(views))
        nodes = torch.cat([users, torch.cat(views, dim=1)])
        if dropout:
            layer, layers = nodes, [nodes]
            for _ in range(self.options.n_layers):
                layer = F.dropout(self.adjacency(layer), dropout)
                layers.append(layer)
            nodes = torch.stack(layers).mean(0)
        else:
            nodes = light_propagation(self.adjacency, nodes, self.options.n_layers)
        found, items = nodes.split([self.n_users, self.n_items])
        return found, items

    def forward(self) -> tuple[Tensor, Tensor]:
        """Users `[U, d]` and items `[N, d]`, all views fused."""
        users, items = self.spread(self.item_views())
        z_u: Tensor = self.fuse_users(users)
        z_i: Tensor = self.fuse_items(items)
        return z_u, z_i

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of one batch of (user, item) pairs."""
        self.forget()
        options = self.options
        users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        views = self.item_views()
        of_users, of_items = self.spread(views)
        z_u, z_i = self.fuse_users(of_users[users]), self.fuse_items(of_items[items])  # [B, d]
        loss = in_batch(F.normalize(z_u, dim=1), F.normalize(z_i, dim=1), options.tau)
        if options.ssl_task == "none" or options.ssl_weight == 0:
            return loss
        if options.ssl_task == "FAC":
            task = self.fine_and_coarse(of_items[items].chunk(len(views), dim=1))
        else:
            task = self.two_graphs(views, users, items)
        total: Tensor = loss + options.ssl_weight * task
        return total

    def fine_and_coarse(self, views: tuple[Tensor, ...]) -> Tensor:
        """FAC of a batch's items, ids first. `[B, d]` each"""
        y, loss = views[0], views[0].new_zeros(())
        for name, view in zip(self.modalities, views[1:], strict=True):
            y = self.steps[name](y)
            loss = loss + in_batch(y, self.heads[name](view), self.options.ssl_tau)
        return loss

    def two_graphs(self, views: list[Tensor], users: Tensor, items: Tensor) -> Tensor:
        """FD and FM: users and items of a batch recognised across two changed graphs. `[B], [B]`"""
        task, loss = self.options.ssl_task, views[0].new_zeros(())
        masked = torch.randperm(len(views))[:2].tolist() if "FM" in task else [-1, -1]
        pairs = []
        for which in masked:
            changed = [torch.zeros_like(view) if place == which else view for place, view in enumerate(views)]
            of_users, of_items = self.spread(changed, self.options.dropout if "FD" in task else 0.0)
            fused = self.fuse_users(of_users[users]), self.fuse_items(of_items[items])
            pairs.append([F.normalize(z, dim=1) for z in fused])
        for one, two in zip(*pairs, strict=True):
            loss = loss + in_batch(one, two, self.options.ssl_tau)
        return loss


def in_batch(a: Tensor, b: Tensor, tau: float) -> Tensor:
    """CE(a, b, tau): each row of `a` finds its own row among all of `b`. `[B, d]` each"""
    return item_cross_entropy(a / tau, b, torch.arange(len(a), device=a.device))
