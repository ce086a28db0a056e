"""HeLLM's first stage: multi-modal hypergraph contrastive collaborative filtering (MMHCL).

Paper: Guo et al., "Multi-Modal Hypergraph Enhanced LLM Learning for Recommendation" (HeLLM),
arXiv 2504.10541, 2025, stage A.
Released code, read for facts only: Xu107/MMHCL @0ceaa26.

Four tables of width d: e_u, e_i on the bipartite graph, h_u, h_i on two hypergraphs.

    e   = mean_{l=0..L} A^l e0                      A = D^-1/2 [0 R; R' 0] D^-1/2
    h_u = P_u^{L_u} h_u0                            P_u = rownorm(R R' - diag)
    h_i = P_i^{L_i} h_i0                            P_i = symnorm(I I'), I = kNN incidence(s), self kept
    e~  = e + h / |h|                               score(u, i) = e~_u . e~_i
    L   = BPR + lambda/2B (|e~_u|^2 + |e~_p|^2 + |e~_n|^2) + alpha CL(e~_u, h_u) + beta CL(e~_i, h_i)
    CL(z, h) = mean_x -log exp s(z_x,h_x) / (sum_y exp s(z_x,h_y) + sum_{y!=x} exp s(z_x,z_y)),  s = cos/tau

Deviations, each a named setting:

* `cl_scope: batch` (default) takes CL over `cl_anchors` users and items drawn uniformly at every
  step, against all keys: an unbiased estimate of the mean over all nodes (`full`, the release).
* `fidelity: release` (default: it produced the published table) as above; `paper` keeps the diagonal of
  R R' and normalises it on both sides, and keeps y = x in the second sum of CL (eq. 7 as printed).
* Stopping counts validations as the release does (5 without a better one, one every 5 epochs), but on
  validation data: the release stops and picks on test.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.artifact.tables import load_table, rows_for
from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.graph.bipartite import bipartite_adjacency
from recbole_llmgraph.graph.hypergraph import ItemHypergraph, UserHypergraph
from recbole_llmgraph.graph.knn import cosine_knn
from recbole_llmgraph.graph.lightgcn import light_propagation
from recbole_llmgraph.host.dataset import item_tokens, training_pairs
from recbole_llmgraph.host.models import InputType, config_values, read_settings
from recbole_llmgraph.loss.bpr import bpr, l2_penalty
from recbole_llmgraph.loss.infonce import cross_view_infonce
from recbole_llmgraph.model.inner_product import InnerProductRecommender
from recbole_llmgraph.model.needs import ItemFeature, Need, TextFeatures
from recbole_llmgraph.model.tables import without_padding
from recbole_llmgraph.train.settings import TrainSettings


class HeLLMPreSettings(TrainSettings):
    """Settings of HeLLMPre; defaults are the released ones for Beauty."""

    epochs: PositiveInt = 1000
    learning_rate: PositiveFloat = 1e-4
    eval_step: NonNegativeInt = 5
    valid_metric: str = "recall@20"
    schedule: Literal["constant", "exponential", "linear", "cosine"] = "exponential"
    embedding_size: PositiveInt = 64
    n_layers: NonNegativeInt = 2
    """L, layers of the bipartite graph."""
    user_layers: NonNegativeInt = 2
    """L_u, layers of the user-user hypergraph."""
    item_layers: NonNegativeInt = 1
    """L_i, layers of the item-item hypergraph."""
    alpha: NonNegativeFloat = 0.9
    """Weight of the users' contrastive loss."""
    beta: NonNegativeFloat = 0.1
    """Weight of the items' contrastive loss."""
    knn_k: PositiveInt = 10
    """Nearest items in a hyperedge, the item itself among them (the papers' top-K)."""
    tau: PositiveFloat = 0.5
    """Temperature of the contrastive loss."""
    reg_weight: NonNegativeFloat = 1e-4
    """lambda of the L2 penalty."""
    fidelity: Literal["release", "paper"] = "release"
    hyperedge_weight: Literal["identity", "trainable"] = "identity"
    cl_scope: Literal["batch", "full"] = "batch"
    cl_anchors: PositiveInt = 1024
    """Users, and items, drawn a step as anchors when `cl_scope` is `batch`."""
    use_u2u: bool = True
    use_i2i: bool = True
    use_cl: bool = True
    """False drops both contrastive losses and keeps the fusion of views."""
    text_encoder: str = "auto"
    text_features: str = ""
    """File of item text vectors; the suite fills it."""
    image_features: str = ""
    """File of item image vectors; the suite fills it where a dataset has images."""


#: Values that sweeps try, in the papers' ticks (HeLLM Fig. 3 and 4).
search_space: dict[str, list[Any]] = {
    "knn_k": [1, 5, 10, 15, 20, 25, 30],
    "tau": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
    "reg_weight": [1e-5, 1e-4, 1e-3, 1e-2],
    "embedding_size": [16, 32, 64, 128, 256],
    "alpha": [0.0, 0.1, 0.3, 0.5, 0.7, 0.9],
    "beta": [0.0, 0.1, 0.3, 0.5, 0.7, 0.9],
}
#: Rows of HeLLM Table 3 that concern this stage.
ablations: dict[str, dict[str, Any]] = {
    "no_u2u": {"use_u2u": False},
    "no_i2i": {"use_i2i": False},
    "no_cl": {"use_cl": False},
}


class HeLLMPre(InnerProductRecommender):
    """Hypergraph-contrastive collaborative filtering.

    Shapes: U users and N items, padding (id 0) included and empty in every graph; width d.
    """

    input_type = InputType.PAIRWISE
    settings: ClassVar[type[TrainSettings]] = HeLLMPreSettings
    batching: ClassVar[str] = "by_user"

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        self.options = read_settings(HeLLMPreSettings, config)
        users, items = (torch.from_numpy(ids) for ids in training_pairs(dataset))
        options, width = self.options, self.options.embedding_size
        self.adjacency = bipartite_adjacency(users, items, self.n_users, self.n_items)
        self.user_nodes = nn.Embedding(self.n_users, width)
        self.item_nodes = nn.Embedding(self.n_items, width)
        if options.use_u2u:
            paper = options.fidelity == "paper"
            self.user_hypergraph = UserHypergraph(
                users, items, self.n_users, self.n_items, keep_diagonal=paper, symmetric=paper
            )
            self.user_view = nn.Embedding(self.n_users, width)
        if options.use_i2i:
            self.item_hypergraph = ItemHypergraph(self._neighbours(dataset), self.n_items)
            self.item_view = nn.Embedding(self.n_items, width)
        if options.hyperedge_weight == "trainable":
            self._weigh_hyperedges()
        for name, parameter in self.named_parameters():
            if not name.endswith("_weight_log"):
                nn.init.xavier_uniform_(parameter)

    @classmethod
    def needs(cls, settings: HeLLMPreSettings) -> list[Need]:
        """Text features of items always; image features where the dataset has them."""
        if not settings.use_i2i:
            return []
        return [
            TextFeatures("text_features", settings.text_encoder),
            ItemFeature("image_features", "image"),
        ]

    @classmethod
    def recbole_config(cls, settings: HeLLMPreSettings) -> dict[str, Any]:
        """Config keys; negatives are RecBole's uniform ones, one a positive."""
        return config_values(settings)

    def _neighbours(self, dataset: Any) -> list[Tensor]:
        """Nearest items of every item, one `[N, k]` matrix of ids a modality; padding excluded."""
        if not self.options.text_features:
            raise UserError(
                "HeLLMPre needs text_features for its item hypergraph: pass "
                "config_dict=recbole_settings('HeLLMPre', dataset), or set use_i2i=False"
            )
        files = [self.options.text_features, self.options.image_features]
        tokens = item_tokens(dataset)
        k, items = self.options.knn_k, self.n_items - 1
        if k > items:
            raise UserError(f"HeLLMPre.knn_k={k}: there are {items} items; take at most {items}")
        tables = [rows_for(load_table(Path(file)), tokens)[1:] for file in files if file]
        return [cosine_knn(table.float(), k) + 1 for table in tables]

    def _weigh_hyperedges(self) -> None:
        """Trainable diagonal W of each hypergraph: exp of a free vector, the identity at first."""
        if self.options.use_u2u:
            self.user_weight_log = nn.Parameter(torch.zeros(self.user_hypergraph.n_hyperedges))
        if self.options.use_i2i:
            self.item_weight_log = nn.Parameter(torch.zeros(self.item_hypergraph.n_hyperedges))

    def forward(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Fused users `[U, d]` and items `[N, d]`, and the hypergraph views of both (None when off)."""
        nodes = torch.cat([self.user_nodes.weight, self.item_nodes.weight])
        e = light_propagation(self.adjacency, nodes, self.options.n_layers)
        users, items = e.split([self.n_users, self.n_items])
        user_view = item_view = None
        if self.options.use_u2u:
            user_view = self._spread(self.user_hypergraph, self.user_view.weight, "user")
            users = users + F.normalize(user_view, dim=1)
        if self.options.use_i2i:
            item_view = self._spread(self.item_hypergraph, self.item_view.weight, "item")
            items = items + F.normalize(item_view, dim=1)
        return users, items, user_view, item_view

    def _spread(self, hypergraph: nn.Module, table: Tensor, side: Literal["user", "item"]) -> Tensor:
        """A hypergraph's propagation, L_u or L_i times."""
        weight = getattr(self, f"{side}_weight_log", None)
        weight = weight.exp() if weight is not None else None
        layers = self.options.user_layers if side == "user" else self.options.item_layers
        for _ in range(layers):
            table = hypergraph(table, weight)
        return table

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of one batch of (user, positive, negative) triples."""
        self.forget()
        users, items, user_view, item_view = self.forward()
        u = users[interaction[self.USER_ID]]  # [B, d]
        p = items[interaction[self.ITEM_ID]]
        n = items[interaction[self.NEG_ITEM_ID]]
        loss = bpr((u * p).sum(1), (u * n).sum(1)) + self.options.reg_weight * l2_penalty(u, p, n)
        if self.options.use_cl:
            loss = loss + self._contrast(users, user_view, self.options.alpha)
            loss = loss + self._contrast(items, item_view, self.options.beta)
        return loss

    def _contrast(self, z: Tensor, view: Tensor | None, weight: float) -> Tensor:
        """`weight` times CL(z, view) over all real nodes or over anchors drawn uniformly among them."""
        if view is None or weight == 0:
            return z.new_zeros(())
        n = len(z) - 1  # without padding
        if self.options.cl_scope == "full" or self.options.cl_anchors >= n:
            anchors = torch.arange(n, device=z.device)
        else:
            anchors = torch.randperm(n, device=z.device)[: self.options.cl_anchors]
        return weight * cross_view_infonce(
            anchors, z[1:], view[1:], self.options.tau, keep_self=self.options.fidelity == "paper"
        )

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The fused vectors."""
        return self.forward()[:2]

    def item_table(self) -> Tensor:
        """E^G, the fused item vectors that HeLLM reads; the padding row is zero. `[N, d]`"""
        with torch.no_grad():
            return without_padding(self.tables()[1])
