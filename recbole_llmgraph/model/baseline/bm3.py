"""BM3: bootstrapped latent representations, learnt from positive pairs alone.

Paper: Zhou et al., "Bootstrap Latent Representations for Multi-modal Recommendation", WWW 2023,
arXiv 2207.05969.
Released code, read for facts only: enoche/MMRec @e775373.

    h_u, h_i = mean_{l=0..L} A^l [x_u; x_i]; h_i <- h_i + x_i         A = D^-1/2 [0 R; R' 0] D^-1/2
    t_i      = W_m f_i^m + b_m, f^m trained, too                      for each modality m
    y~       = W_p y + b_p                                            predictor, for h and t alike
    y.       = dropout(y), without gradient                           target
    C(a, b)  = 1 - mean cos(a, b)
    L_rec    = C(h~_u, h._i) + C(h~_i, h._u)
    L_mm     = sum_m C(t~_i, h._i) + C(t~_i, t._i)
    L        = L_rec + w_cl L_mm + lambda (|H_u|_F + |H_i|_F) / N     all nodes; no negatives
    s(u, i)  = h~_u . h~_i                                            the predictor stays at inference

Deviations, the first a named setting:

* `fidelity: release` (default) has the penalty above; `paper` has lambda (|h_u|^2 + |h_i|^2), the mean over
  the batch.
* Targets' dropout is drawn for each row of a batch; MMRec draws it for each node, so that a node which stands
  in two rows has one target.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.graph.bipartite import bipartite_adjacency
from recbole_llmgraph.graph.lightgcn import light_propagation
from recbole_llmgraph.host.models import InputType, config_values
from recbole_llmgraph.host.originals import EmbLoss
from recbole_llmgraph.loss.bpr import l2_penalty
from recbole_llmgraph.model.baseline.multimodal import MultimodalRecommender, MultimodalSettings


class BM3Settings(MultimodalSettings):
    """Settings of BM3."""

    n_layers: NonNegativeInt = 1
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of a target's components that are dropped."""
    cl_weight: NonNegativeFloat = 2.0
    """w_cl, weight of the modalities' alignment."""
    reg_weight: NonNegativeFloat = 0.1
    fidelity: Literal["release", "paper"] = "release"
    use_reconstruction: bool = True
    """Learn from user-item pairs; False keeps the alignment of modalities alone."""
    use_inter: bool = True
    """Align each modality with the item's graph representation."""
    use_intra: bool = True
    """Align each modality with its own dropped copy."""


#: Values that sweeps try, in MMRec's ticks.
search_space: dict[str, list[Any]] = {
    "n_layers": [1, 2],
    "dropout": [0.3, 0.5],
    "reg_weight": [0.01, 0.1],
    "learning_rate": [5e-4, 1e-3, 2e-3],
    "cl_weight": [0.5, 1.0, 2.0],
}
#: What is taken away, one at a time (the paper's ablation of its losses).
ablations: dict[str, dict[str, Any]] = {
    "no_reconstruction": {"use_reconstruction": False},
    "no_inter": {"use_inter": False},
    "no_intra": {"use_intra": False},
    "no_multimodal": {"cl_weight": 0.0},
}


class BM3(MultimodalRecommender):
    """Bootstrapped multimodal model."""

    input_type = InputType.POINTWISE
    settings: ClassVar[type[MultimodalSettings]] = BM3Settings

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        width = self.options.embedding_size
        self.adjacency = bipartite_adjacency(*self.edges(dataset), self.n_users, self.n_items)
        self.user_nodes, self.item_nodes = self.make_tables(width)
        self.predictor = nn.Linear(width, width)
        self.features, self.projections = nn.ModuleDict(), nn.ModuleDict()
        for modality, table in self.item_features(dataset).items():
            self.features[modality] = nn.Embedding.from_pretrained(table, freeze=False)
            self.projections[modality] = projection = nn.Linear(table.shape[1], width)
            nn.init.xavier_normal_(projection.weight)
        nn.init.xavier_normal_(self.predictor.weight)
        self.norms = EmbLoss()

    @classmethod
    def recbole_config(cls, settings: MultimodalSettings) -> dict[str, Any]:
        """Config keys; no negatives are drawn."""
        return {**config_values(settings), "train_neg_sample_args": None}

    def represent(self) -> tuple[Tensor, Tensor]:
        """H of users `[U, d]` and items `[N, d]`, before the predictor."""
        ids = self.item_nodes.weight
        nodes = torch.cat([self.user_nodes.weight, ids])
        nodes = light_propagation(self.adjacency, nodes, self.options.n_layers)
        users, items = nodes.split([self.n_users, self.n_items])
        return users, items + ids

    def forward(self) -> tuple[Tensor, Tensor]:
        """Predicted users `[U, d]` and items `[N, d]`."""
        users, items = self.represent()
        return self.predictor(users), self.predictor(items)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of one batch of (user, item) pairs."""
        self.forget()
        options = self.options
        users, items = self.represent()
        ids = interaction[self.ITEM_ID]
        u, i = users[interaction[self.USER_ID]], items[ids]  # [B, d]
        if options.fidelity == "release":
            loss: Tensor = options.reg_weight * self.norms(users, items).sum()
        else:
            loss = options.reg_weight * 2 * l2_penalty(u, i)
        item_target = self._target(i)
        if options.use_reconstruction:
            loss = loss + distance(self.predictor(u), item_target)
            loss = loss + distance(self.predictor(i), self._target(u))
        if options.cl_weight > 0:
            for modality, table in self.features.items():
                projected = self.projections[modality](table(ids))
                predicted = self.predictor(projected)
                if options.use_inter:
                    loss = loss + options.cl_weight * distance(predicted, item_target)
                if options.use_intra:
                    loss = loss + options.cl_weight * distance(predicted, self._target(projected))
        return loss

    def _target(self, x: Tensor) -> Tensor:
        """The contrasted view: dropped out and cut off from the gradient. `[B, d]`"""
        return F.dropout(x.detach(), self.options.dropout)


def distance(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - mean cosine over rows. `[B, d]` each"""
    return 1 - F.cosine_similarity(prediction, target, dim=-1).mean()
