"""VBPR: matrix factorisation whose items have a second half, projected from their content.

Paper: He & McAuley, "VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback", AAAI 2016,
arXiv 1510.01784.
Implementation behind most published multimodal rows, read for facts only: enoche/MMRec @e775373.

    s(u, i) = g_u . g_i + t_u . (E f_i + b)                           f_i: features of all modalities, joined
    L       = BPR + lambda (|[g_u; t_u]| + |[g_p; E f_p + b]| + |[g_n; E f_n + b]|) / B      Frobenius norms

`fidelity: mmrec` (default) is this; `paper` adds the item's bias b_i and the content's, c . f_i, and puts
squared norms, (lambda / 2B) sum |.|^2, in place of norms. A user's bias and the overall one rank nothing.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from recbole_llmgraph.host.originals import EmbLoss
from recbole_llmgraph.loss.bpr import bpr, l2_penalty
from recbole_llmgraph.model.baseline.multimodal import MultimodalRecommender, MultimodalSettings


class VBPRSettings(MultimodalSettings):
    """Settings of VBPR."""

    reg_weight: NonNegativeFloat = 1e-2
    fidelity: Literal["mmrec", "paper"] = "mmrec"
    use_content: bool = True
    """False leaves matrix factorisation of width d."""


#: Values that sweeps try; lambda in MMRec's ticks.
search_space: dict[str, list[Any]] = {
    "reg_weight": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 2.0],
    "learning_rate": [5e-4, 1e-3, 2e-3],
    "embedding_size": [32, 64, 128],
}
#: What is taken away.
ablations: dict[str, dict[str, Any]] = {"no_content": {"use_content": False}}


class VBPR(MultimodalRecommender):
    """Content-aware matrix factorisation; users have width 2d."""

    settings: ClassVar[type[MultimodalSettings]] = VBPRSettings
    features: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        width = self.options.embedding_size
        self.user_nodes, self.item_nodes = self.make_tables(2 * width)
        features = torch.cat(list(self.item_features(dataset).values()), dim=1)
        self.register_buffer("features", features, persistent=False)
        self.projection = nn.Linear(features.shape[1], width)
        nn.init.xavier_normal_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        if self.options.fidelity == "paper":
            self.item_bias = nn.Parameter(torch.zeros(self.n_items))
            self.content_bias = nn.Parameter(torch.zeros(features.shape[1]))
        self.norms = EmbLoss()

    def _items(self, ids: Tensor) -> Tensor:
        """[g_i; E f_i + b]. `[B, 2d]`"""
        content: Tensor = self.projection(self.features[ids])
        if not self.options.use_content:
            content = torch.zeros_like(content)
        return torch.cat([self.item_nodes(ids), content], dim=1)

    def _bias(self, ids: Tensor) -> Tensor:
        """b_i + c . f_i. `[B]`"""
        bias: Tensor = self.item_bias[ids] + self.features[ids] @ self.content_bias
        return bias

    def forward(self) -> tuple[Tensor, Tensor]:
        """Users and items as they are scored; biases are one more column. `[U, 2d], [N, 2d]`"""
        ids = torch.arange(self.n_items, device=self.features.device)
        users, items = self.user_nodes.weight, self._items(ids)
        if self.options.fidelity == "paper":
            users = torch.cat([users, torch.ones_like(users[:, :1])], dim=1)
            items = torch.cat([items, self._bias(ids)[:, None]], dim=1)
        return users, items

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of one batch of (user, positive, negative) triples."""
        self.forget()
        positive, negative = interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]
        u = self.user_nodes(interaction[self.USER_ID])  # [B, 2d]
        p, n = self._items(positive), self._items(negative)
        better, worse = (u * p).sum(1), (u * n).sum(1)
        if self.options.fidelity == "paper":
            better, worse = better + self._bias(positive), worse + self._bias(negative)
            penalty = l2_penalty(u, p, n)
        else:
            penalty = self.norms(u, p, n).sum()
        loss: Tensor = bpr(better, worse) + self.options.reg_weight * penalty
        return loss
