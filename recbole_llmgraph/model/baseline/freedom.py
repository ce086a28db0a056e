"""FREEDOM: a frozen item graph beside a user-item graph that loses edges of popular nodes.

Paper: Zhou & Shen, "A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal
Recommendation", MM 2023, arXiv 2211.06924.
Released code, read for facts only: enoche/MMRec @e775373.

    S^m_ij = 1 if j is among the K items most like i by cosine, i itself included      frozen
    S      = sum_m w_m D^-1/2 S^m D^-1/2               w = image_weight, 1 - image_weight; 1 for text alone
    h      = S^L_ii x_i                                x: item ids
    P(edge u-i stays) ~ 1 / sqrt(d_u d_i)              drawn anew each epoch, without replacement
    u^, i^ = mean_{l=0..L_ui} A^l [x_u; x_i]           A: edges that stay, normalised anew; all to score
    s(u, i) = u^ . (i^ + h)
    L      = BPR(u^, i^ + h) + lambda sum_m BPR(u^, W_m f^m + b_m)                     f^m are trained, too

The loss of modalities is computed for the items of a batch alone, which is the same number. An item without
text is its own only neighbour (MMRec divides by zero).
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from recbole_llmgraph.graph.bipartite import bipartite_adjacency
from recbole_llmgraph.graph.lightgcn import light_propagation
from recbole_llmgraph.graph.sparse import SparseMatrix, distinct_pairs
from recbole_llmgraph.loss.bpr import bpr
from recbole_llmgraph.model.baseline.multimodal import MultimodalRecommender, MultimodalSettings


class FREEDOMSettings(MultimodalSettings):
    """Settings of FREEDOM."""

    n_layers: NonNegativeInt = 2
    """L_ui, layers of the user-item graph."""
    item_layers: NonNegativeInt = 1
    """L_ii, layers of the item graph."""
    knn_k: PositiveInt = 10
    """Nearest items, the item itself among them."""
    image_weight: float = Field(default=0.1, ge=0, le=1)
    """Share of the image graph where there are images."""
    edge_dropout: float = Field(default=0.8, ge=0, lt=1)
    """Share of the user-item edges that an epoch goes without."""
    pruning: Literal["degree", "uniform"] = "degree"
    """Edges stay by degree, as the paper does, or each with the same chance."""
    reg_weight: NonNegativeFloat = 1e-3
    """lambda, weight of the modalities' own ranking loss."""
    use_item_graph: bool = True


#: Values that sweeps try; dropout and lambda in MMRec's ticks.
search_space: dict[str, list[Any]] = {
    "learning_rate": [5e-4, 1e-3, 2e-3],
    "edge_dropout": [0.0, 0.5, 0.8, 0.9],
    "reg_weight": [0.0, 1e-5, 1e-4, 1e-3],
    "knn_k": [5, 10, 15, 20],
    "n_layers": [1, 2, 3],
}
#: What is taken away or exchanged, one at a time (the paper's Table 3 and its uniform pruning).
ablations: dict[str, dict[str, Any]] = {
    "no_item_graph": {"use_item_graph": False},
    "no_pruning": {"edge_dropout": 0.0},
    "uniform_pruning": {"pruning": "uniform"},
}


class FREEDOM(MultimodalRecommender):
    """Frozen and denoised graphs."""

    settings: ClassVar[type[MultimodalSettings]] = FREEDOMSettings
    edge_users: Tensor
    edge_items: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        options = self.options
        sizes = self.n_users, self.n_items
        users, items = distinct_pairs(*self.edges(dataset), sizes)
        self.register_buffer("edge_users", users, persistent=False)
        self.register_buffer("edge_items", items, persistent=False)
        self.adjacency = bipartite_adjacency(users, items, *sizes)
        self._pruned: SparseMatrix | None = None
        self.user_nodes, self.item_nodes = self.make_tables(options.embedding_size)
        features = self.item_features(dataset)
        self.features, self.projections = nn.ModuleDict(), nn.ModuleDict()
        self.graphs = nn.ModuleDict()
        for modality, table in features.items():
            self.features[modality] = nn.Embedding.from_pretrained(table, freeze=False)
            self.projections[modality] = nn.Linear(table.shape[1], options.embedding_size)
            if options.use_item_graph:
                self.graphs[modality] = self._item_graph(table)
        self.shares = {"text": 1.0 - options.image_weight, "image": options.image_weight}
        if len(features) == 1:
            self.shares = dict.fromkeys(features, 1.0)

    def _item_graph(self, features: Tensor) -> SparseMatrix:
        """D^-1/2 S D^-1/2 of the nearest items. `[N, N]`, K entries a row"""
        rows, columns = self.nearest_items(features)
        degree = torch.bincount(rows, minlength=self.n_items).double()
        values = (degree[rows] * degree[columns]).rsqrt().float()
        return SparseMatrix(rows, columns, values, (self.n_items, self.n_items))

    def renew(self) -> None:
        """The next training step draws which edges stay."""
        super().renew()
        self._pruned = None

    def pruned_adjacency(self) -> SparseMatrix:
        """The edges of this epoch, drawn at its first step."""
        if self.options.edge_dropout == 0:
            return self.adjacency
        if self._pruned is None:
            stay = self._draw_edges()
            users, items = self.edge_users[stay], self.edge_items[stay]
            self._pruned = bipartite_adjacency(users, items, self.n_users, self.n_items)
        return self._pruned

    def _draw_edges(self) -> Tensor:
        """Numbers of the edges that stay."""
        users, items = self.edge_users, self.edge_items
        kept = max(1, int(len(users) * (1.0 - self.options.edge_dropout)))
        chances = torch.ones(len(users), device=users.device)
        if self.options.pruning == "degree":
            chances = (torch.bincount(users)[users] * torch.bincount(items)[items]).float().rsqrt()
        return torch.multinomial(chances, kept)

    def forward(self, adjacency: SparseMatrix | None = None) -> tuple[Tensor, Tensor]:
        """Users `[U, d]` and items `[N, d]` on some edges; on all of them, to score, when none are given."""
        nodes = torch.cat([self.user_nodes.weight, self.item_nodes.weight])
        nodes = light_propagation(adjacency or self.adjacency, nodes, self.options.n_layers)
        users, items = nodes.split([self.n_users, self.n_items])
        if self.options.use_item_graph:
            items = items + self._spread(self.item_nodes.weight)
        return users, items

    def _spread(self, x: Tensor) -> Tensor:
        """h: item ids over the item graphs of all modalities. `[N, d]`"""
        for _ in range(self.options.item_layers):
            parts = [self.shares[name] * graph(x) for name, graph in self.graphs.items()]
            x = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
        return x

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of one batch of (user, positive, negative) triples."""
        self.forget()
        users, items = self.forward(self.pruned_adjacency())
        u = users[interaction[self.USER_ID]]  # [B, d]
        positive, negative = interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]
        loss = bpr((u * items[positive]).sum(1), (u * items[negative]).sum(1))
        if self.options.reg_weight > 0:
            for modality, table in self.features.items():
                p, n = (self.projections[modality](table(ids)) for ids in (positive, negative))
                loss = loss + self.options.reg_weight * bpr((u * p).sum(1), (u * n).sum(1))
        return loss
