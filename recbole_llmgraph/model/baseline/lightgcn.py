"""LightGCN, RecBole's own, propagating row by row.

Paper: He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation",
SIGIR 2020.

    E^(l+1) = D^-1/2 A D^-1/2 E^(l),   E = mean_l E^(l),   s(u, i) = <E_u, E_i>

Loss and scores are RecBole's (BPR plus norms of the layer-0 embeddings). Accelerated, the graph is built
without RecBole's dictionary of edges, and its product reads rows (CSR) instead of a COO list, both ways.

Under `rate` and `sign` it learns the liked ratings; with an `oracle` also the favourites that this picks,
which is LLM-LightGCN of LLM-PNGNN's Table 1.
"""

from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor

from recbole_llmgraph.graph.bipartite import bipartite_adjacency
from recbole_llmgraph.graph.lightgcn import light_propagation
from recbole_llmgraph.host import originals
from recbole_llmgraph.host.models import config_values
from recbole_llmgraph.model.augmented import AugmentedSettings, edge_needs
from recbole_llmgraph.model.needs import Need
from recbole_llmgraph.model.tables import without_padding


class LightGCNSettings(AugmentedSettings):
    """Settings of LightGCN."""

    embedding_size: PositiveInt = 64
    n_layers: NonNegativeInt = 3
    reg_weight: NonNegativeFloat = 1e-4
    """Weight of the penalty on layer-0 embeddings."""
    require_pow: bool = True
    """Penalise squared norms, as the paper does; False penalises norms, RecBole's default."""


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [1e-3, 2e-3, 5e-3],
    "n_layers": [1, 2, 3, 4],
    "reg_weight": [1e-5, 1e-4, 1e-3],
    "embedding_size": [32, 64, 128],
}


class LightGCN(originals.LightGCN):
    """Light graph convolution.

    Shapes: U users and N items, padding included and without edges; width d.
    """

    settings: ClassVar[type[LightGCNSettings]] = LightGCNSettings
    batching: ClassVar[str] = "uniform"
    keeps_candidates: ClassVar[bool] = True

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        self.accelerated = config["accelerate"] is not False  # before RecBole asks for the graph
        super().__init__(config, dataset)

    @classmethod
    def needs(cls, settings: LightGCNSettings) -> list[Need]:
        """The oracle's edges, when there is one."""
        return edge_needs(settings)

    @classmethod
    def recbole_config(cls, settings: LightGCNSettings) -> dict[str, Any]:
        """Config keys of these settings; negatives are RecBole's uniform ones, one a positive."""
        return config_values(settings)

    def get_norm_adj_mat(self) -> Any:
        """D^-1/2 A D^-1/2 of the training part. `[U + N, U + N]`"""
        if not self.accelerated:
            return super().get_norm_adj_mat()
        users, items = (
            torch.from_numpy(ids).long() for ids in (self.interaction_matrix.row, self.interaction_matrix.col)
        )
        return bipartite_adjacency(users, items, self.n_users, self.n_items)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Mean over layers of users `[U, d]` and items `[N, d]`."""
        if not self.accelerated:
            plain: tuple[Tensor, Tensor] = super().forward()
            return plain
        nodes = light_propagation(self.norm_adj_matrix, self.get_ego_embeddings(), self.n_layers)
        users, items = nodes.split([self.n_users, self.n_items])
        return users, items

    def train(self, mode: bool = True) -> "LightGCN":
        """Switch mode and drop the tables RecBole keeps for scoring, which outlive a change of weights."""
        self.restore_user_e = self.restore_item_e = None
        super().train(mode)
        return self

    @torch.no_grad()
    def item_table(self) -> Tensor:
        """Propagated item vectors that later stages read; the padding row is zero. `[N, d]`"""
        return without_padding(self.forward()[1])

    @torch.no_grad()
    def user_table(self) -> Tensor:
        """Propagated user vectors that later stages read; the padding row is zero. `[U, d]`"""
        return without_padding(self.forward()[0])
