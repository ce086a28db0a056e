"""LATTICE: item graphs learnt from content, beside collaborative filtering.

Paper: Zhang et al., "Mining Latent Structures for Multimedia Recommendation", MM 2021, arXiv 2104.09036.
Released code, read for facts only: CRIPAC-DIG/LATTICE, and enoche/MMRec @e775373.

    kNN(S)    = the K largest entries of each row of S, others 0
    N(S)      = D^-1/2 S D^-1/2                                       D: row sums
    S^m_ij    = cos(f_i^m, f_j^m)                                     given features, fixed
    S~^m_ij   = cos(W_m f_i^m + b_m, W_m f_j^m + b_m)                 learnt; f^m are trained, too
    A         = lambda sum_m a_m N(kNN(S^m)) + (1 - lambda) N(sum_m a_m kNN(S~^m))    a = softmax(w)
    h         = A^L x_i                                               x: ids
    u^, i^    = mean_{l=0..L_ui} G^l [x_u; x_i]                       G = D^-1 (R + I), R the user-item graph
    s(u, i)   = u^ . (i^ + h / |h|)
    L         = BPR + (lambda_2 / 2B) (|u|^2 + |p|^2 + |n|^2)         vectors as scored

As in the release, A is found anew with its gradient at the first step of each epoch and stands still for the
others; scores use the A of the weights as they are. Neither S nor A is ever N x N: neighbours are found in
blocks of rows, and only the K cosines of each row are kept and differentiated.

Deviations, the first a named setting:

* `fidelity: release` (default) is as above; `paper` has LightGCN's symmetric G without self-loops.
* A row of kNN(S) or kNN(S~) whose sum is not positive is empty: an item without text has no given neighbours
  (NaN in the release).
"""

from typing import Any, ClassVar, Literal, NamedTuple, cast

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.graph.bipartite import bipartite_adjacency, mean_adjacency
from recbole_llmgraph.graph.edges import Edges
from recbole_llmgraph.graph.lightgcn import light_propagation
from recbole_llmgraph.loss.bpr import bpr, l2_penalty
from recbole_llmgraph.loss.infonce import unit
from recbole_llmgraph.model.baseline.multimodal import MultimodalRecommender, MultimodalSettings


class LATTICESettings(MultimodalSettings):
    """Settings of LATTICE."""

    learning_rate: PositiveFloat = 5e-4
    schedule: Literal["constant", "exponential", "linear", "cosine"] = "exponential"
    n_layers: NonNegativeInt = 2
    """L_ui, layers of the user-item graph."""
    item_layers: NonNegativeInt = 1
    """L, layers of the item graph."""
    knn_k: PositiveInt = 10
    """Nearest items, the item itself among them."""
    skip_weight: float = Field(default=0.9, ge=0, le=1)
    """lambda, share of the graphs of the given features."""
    reg_weight: NonNegativeFloat = 1e-4
    """lambda_2 of the L2 penalty."""
    fidelity: Literal["release", "paper"] = "release"
    use_item_graph: bool = True


#: Values that sweeps try; rate and penalty in MMRec's ticks.
search_space: dict[str, list[Any]] = {
    "learning_rate": [1e-4, 5e-4, 1e-3, 5e-3],
    "reg_weight": [0.0, 1e-5, 1e-4, 1e-3],
    "knn_k": [5, 10, 15, 20],
    "skip_weight": [0.0, 0.3, 0.5, 0.7, 0.9, 1.0],
    "item_layers": [1, 2],
}
#: What is taken away, one at a time (the paper's ablation of its graphs).
ablations: dict[str, dict[str, Any]] = {
    "no_item_graph": {"use_item_graph": False},
    "no_learned_graph": {"skip_weight": 1.0},
    "no_given_graph": {"skip_weight": 0.0},
}


class Weighted(NamedTuple):
    """A sparse `[N, N]` matrix: edges, and a value for each."""

    edges: Edges
    values: Tensor  # [E]


class LATTICE(MultimodalRecommender):
    """Latent structure mining."""

    settings: ClassVar[type[MultimodalSettings]] = LATTICESettings

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        options, width = self.options, self.options.embedding_size
        make = mean_adjacency if options.fidelity == "release" else bipartite_adjacency
        self.adjacency = make(*self.edges(dataset), self.n_users, self.n_items)
        self.user_nodes, self.item_nodes = self.make_tables(width)
        self._graphs: list[Weighted] | None = None
        self.features, self.projections = nn.ModuleDict(), nn.ModuleDict()
        self.given = nn.ModuleDict()
        for modality, table in self.item_features(dataset).items():
            self.features[modality] = nn.Embedding.from_pretrained(table, freeze=False)
            self.projections[modality] = nn.Linear(table.shape[1], width)
            if options.use_item_graph:
                given = self.similarities(table)
                self.given[modality] = given.edges
                values = given.values * self._scale(given, given.edges.sums(given.values))
                self.register_buffer(f"given_{modality}", values, persistent=False)
        self.modality_weights = nn.Parameter(torch.full((len(self.features),), 0.5))

    def similarities(self, features: Tensor) -> Weighted:
        """kNN(S) of features `[N, f]`; differentiable in the cosines that are kept."""
        rows, columns = self.nearest_items(features.detach())
        edges = Edges(rows, columns, (self.n_items, self.n_items))
        directions = unit(features)
        return Weighted(edges, edges.scores(directions, directions))

    def _scale(self, graph: Weighted, degree: Tensor) -> Tensor:
        """Factor of each edge that makes D^-1/2 S D^-1/2 of S; zero where a row sums to nothing. `[E]`"""
        filled = degree > 0
        inverse = degree.masked_fill(~filled, 1).rsqrt() * filled
        return inverse[graph.edges.rows] * inverse[graph.edges.columns]

    def item_graphs(self) -> list[Weighted]:
        """Terms whose sum is A, with their gradients: given ones, then learnt ones."""
        share, weights = self.options.skip_weight, torch.softmax(self.modality_weights, 0)
        names = list(self.features)
        terms = [
            Weighted(cast(Edges, self.given[name]), share * weight * getattr(self, f"given_{name}"))
            for name, weight in zip(names, weights, strict=True)
        ]
        if share == 1:
            return terms
        learnt = []
        for name, weight in zip(names, weights, strict=True):
            edges, cosines = self.similarities(self.projections[name](self.features[name].weight))
            learnt.append(Weighted(edges, weight * cosines))
        degree = torch.stack([edges.sums(values) for edges, values in learnt]).sum(0)
        scaled = [(1 - share) * term.values * self._scale(term, degree) for term in learnt]
        return terms + [Weighted(term.edges, values) for term, values in zip(learnt, scaled, strict=True)]

    def renew(self) -> None:
        """The next step finds the item graph anew."""
        super().renew()
        self._graphs = None

    def _graphs_of_step(self) -> list[Weighted]:
        """A with its gradient at the first step of an epoch, then as it was found."""
        if self._graphs is not None:
            return self._graphs
        graphs = self.item_graphs()
        self._graphs = [Weighted(edges, values.detach()) for edges, values in graphs]
        return graphs

    def forward(self) -> tuple[Tensor, Tensor]:
        """Users `[U, d]` and items `[N, d]` on the item graph of the present weights."""
        return self.represent(self.item_graphs() if self.options.use_item_graph else [])

    def represent(self, graphs: list[Weighted]) -> tuple[Tensor, Tensor]:
        """Users `[U, d]` and items `[N, d]` on an item graph, the sum of `graphs`."""
        ids = self.item_nodes.weight
        nodes = torch.cat([self.user_nodes.weight, ids])
        nodes = light_propagation(self.adjacency, nodes, self.options.n_layers)
        users, items = nodes.split([self.n_users, self.n_items])
        if graphs:
            h = ids
            for _ in range(self.options.item_layers):
                h = torch.stack([edges.gather(values, h) for edges, values in graphs]).sum(0)
            items = items + F.normalize(h, dim=1)
        return users, items

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of one batch of (user, positive, negative) triples."""
        self.forget()
        users, items = self.represent(self._graphs_of_step() if self.options.use_item_graph else [])
        u = users[interaction[self.USER_ID]]  # [B, d]
        p, n = items[interaction[self.ITEM_ID]], items[interaction[self.NEG_ITEM_ID]]
        ranking = bpr((u * p).sum(1), (u * n).sum(1))
        loss: Tensor = ranking + self.options.reg_weight * l2_penalty(u, p, n)
        return loss
