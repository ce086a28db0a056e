"""GRCN: the user-item graph refined by content before it carries messages.

Paper: Wei et al., "Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback",
MM 2020, arXiv 2008.10294.
Implementation behind most published multimodal rows, read for facts only: enoche/MMRec @e775373.

For each modality m, with f^m = norm(leaky_relu(W_m x_i^m + b_m)) and a preference p^m of each user:

    routing, T times   p <- norm(p + sum_{i in N(u)} a_ui f_i)        a_ui = softmax over N(u) of p_u . f_i
    last, both ways    c_u = p_u + sum_i a_ui f_i,   c_i = f_i + sum_u a_iu p_u

    w_ij = relu(max_m a^m_ij q^m_j)                                   q: confidence of the node that sends
    x    = norm(ids);  x1_i = sum_j w_ij x_j;  x2_i = sum_j w_ij x1_j
    z    = [x + x1 + x2 ; c^1 ; c^2 ...]                              s(u, i) = z_u . z_i
    L    = BPR + lambda (mean x_u^2 + mean x_i^2 + sum_m mean p_u^2)  ids of the batch; i: both items

An edge whose weight is not positive is pruned. Softmax runs over the edges of the node that receives.

Deviations:

* Routing gathers items into users, as the paper says. MMRec sends its messages to the items and reads the
  users' rows, which stay zero, so that preferences never move: `n_routing: 0` gives that.
* MMRec needs images; here any set of modalities will do. Its second penalty on all preferences of the image
  modality is left out.
* `confidence_start: xavier` (default, MMRec's) draws half of the confidences below zero, where no gradient
  reaches them unless another modality's is positive; `one` starts them at 1.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.graph.edges import Edges
from recbole_llmgraph.graph.sparse import distinct_pairs
from recbole_llmgraph.loss.bpr import bpr
from recbole_llmgraph.model.baseline.multimodal import MultimodalRecommender, MultimodalSettings


class GRCNSettings(MultimodalSettings):
    """Settings of GRCN."""

    content_size: PositiveInt = 64
    """Width of preferences and projected features, per modality."""
    n_routing: NonNegativeInt = 3
    """T, rounds in which preferences are found."""
    reg_weight: NonNegativeFloat = 1e-3
    confidence_start: Literal["xavier", "one"] = "xavier"
    use_confidence: bool = True
    """False weighs an edge by its largest attention, and prunes nothing."""
    use_content: bool = True
    """False scores by the refined graph's ids alone."""


#: Values that sweeps try; rate and penalty in MMRec's ticks.
search_space: dict[str, list[Any]] = {
    "learning_rate": [1e-4, 1e-3, 1e-2],
    "reg_weight": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1],
    "n_routing": [0, 1, 2, 3],
    "content_size": [32, 64, 128],
}
#: What is taken away, one at a time.
ablations: dict[str, dict[str, Any]] = {
    "no_routing": {"n_routing": 0},
    "no_confidence": {"use_confidence": False},
    "no_content": {"use_content": False},
}

#: Users' and items' side of something.
Sides = tuple[Tensor, Tensor]


class GRCN(MultimodalRecommender):
    """Graph-refined convolution. E edges; c is the width of content."""

    settings: ClassVar[type[MultimodalSettings]] = GRCNSettings

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        options = self.options
        users, items = distinct_pairs(*self.edges(dataset), (self.n_users, self.n_items))
        self.to_users = Edges(users, items, (self.n_users, self.n_items))
        self.to_items = Edges(items, users, (self.n_items, self.n_users))
        self.user_nodes, self.item_nodes = self.make_tables(options.embedding_size)
        features = self.item_features(dataset)
        self.projections, self.preferences = nn.ModuleDict(), nn.ParameterDict()
        for modality, table in features.items():
            self.register_buffer(f"features_{modality}", table, persistent=False)
            self.projections[modality] = projection = nn.Linear(table.shape[1], options.content_size)
            self.preferences[modality] = nn.Parameter(torch.empty(self.n_users, options.content_size))
            for weight in (projection.weight, self.preferences[modality]):
                nn.init.xavier_normal_(weight)
        confidence = torch.ones(self.n_users + self.n_items, len(features))
        if options.confidence_start == "xavier":
            nn.init.xavier_normal_(confidence)
        self.confidence = nn.Parameter(confidence)

    def content(self, modality: str) -> tuple[Sides, Sides]:
        """Content of users `[U, c]` and items `[N, c]`; attention of edges to either side, `[E]` each."""
        raw = getattr(self, f"features_{modality}")
        f = F.normalize(F.leaky_relu(self.projections[modality](raw)), dim=1)
        p = F.normalize(self.preferences[modality], dim=1)
        for _ in range(self.options.n_routing):
            attention = self.to_users.softmax(self.to_users.scores(p, f))
            p = F.normalize(p + self.to_users.gather(attention, f), dim=1)
        of_users = self.to_users.softmax(self.to_users.scores(p, f))
        of_items = self.to_items.softmax(self.to_items.scores(f, p))
        vectors = p + self.to_users.gather(of_users, f), f + self.to_items.gather(of_items, p)
        return vectors, (of_users, of_items)

    def edge_weights(self, attention: list[Sides]) -> Sides:
        """Weights of edges to users and to items from each modality's attention, none negative. `[E], [E]`"""
        to_users, to_items = (torch.stack(side, dim=1) for side in zip(*attention, strict=True))  # [E, M]
        if self.options.use_confidence:
            users, items = self.confidence.split([self.n_users, self.n_items])
            to_users = to_users * F.embedding(self.to_users.columns, items)
            to_items = to_items * F.embedding(self.to_items.columns, users)
        return F.relu(to_users.amax(1)), F.relu(to_items.amax(1))

    def forward(self) -> Sides:
        """Users `[U, d + Mc]` and items `[N, d + Mc]`."""
        contents, attention = zip(*(self.content(name) for name in self.projections), strict=True)
        to_users, to_items = self.edge_weights(list(attention))
        users, items = (F.normalize(table.weight, dim=1) for table in (self.user_nodes, self.item_nodes))
        sums = users, items
        for _ in range(2):
            users, items = self.to_users.gather(to_users, items), self.to_items.gather(to_items, users)
            sums = sums[0] + users, sums[1] + items
        if not self.options.use_content:
            return sums
        of_users, of_items = zip(*contents, strict=True)
        return torch.cat([sums[0], *of_users], dim=1), torch.cat([sums[1], *of_items], dim=1)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of one batch of (user, positive, negative) triples."""
        self.forget()
        users, items = self.forward()
        ids, positive = interaction[self.USER_ID], interaction[self.ITEM_ID]
        negative = interaction[self.NEG_ITEM_ID]
        u, p, n = users[ids], items[positive], items[negative]
        ranking = bpr((u * p).sum(1), (u * n).sum(1))
        chosen = self.item_nodes(torch.cat([positive, negative]))
        penalty = self.user_nodes(ids).square().mean() + chosen.square().mean()
        for preference in self.preferences.values():
            penalty = penalty + preference[ids].square().mean()
        loss: Tensor = ranking + self.options.reg_weight * penalty
        return loss
