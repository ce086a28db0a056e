"""SiReN: propagation over likes, a perceptron for dislikes, attention between, and a ranking loss with signs.

Paper: Seo et al., "SiReN: Sign-Aware Recommendation Using Graph Neural Networks", IEEE Transactions on Neural
Networks and Learning Systems 2022, arXiv 2108.08735. It is the parent of LLM-PNGNN (`model/llmpngnn.py`).
Released code, read for facts only: woni-seo/SiReN-reco.

    Z_p = mean_{l=0..L} A_p^l E_p          A_p = D^-1/2 A D^-1/2 of ratings above `liked_above` (LightGCN)
    Z_n = drop(relu(W_M ... drop(relu(W_1 E_n + b_1)) + b_M))      the nodes of dislikes, without their edges:
                                                                   dislikes say little about neighbours
    w = q' tanh(W x + c);  (a_p, a_n) = softmax(w_p, w_n);  Z = a_p Z_p + a_n Z_n;  s(u, i) = Z_u . Z_i
    L = - sum_{liked (u,i), j} ln sigma(s_ui - s_uj) - sum_{disliked (u,i), j} ln sigma(c s_ui - s_uj)
        + reg sum_{rows of the batch} |Z_row|^2

with 40 negatives j a rating, P(j) ~ d_j^0.75, none that the user rated, drawn anew for every batch. Both
signs rank above what the user did not meet, a disliked item by c > 1 times its score and so less far.

Deviations and open points, each a named setting:

* `disliked: mirrored` is an earlier release: ln sigma(-s_ui - s_uj) for dislikes, which pushes them down.
  `above` (default) is the later one, whose factor c is 3/2 - sign/2.
* `reg_rows: draws` (default, as released): a node's row counts as often as the batch names it; `once` not.
  The released command for MovieLens-1M has `reg_weight` 0.1, the other data sets and the code's default 0.05.
* The release draws its negatives every 20 epochs into one table, picks the best epoch on test ratings, and
  trains up to 1,000 epochs. Here epochs are picked on a hold-out (`eval_step`) or fixed.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.graph.lightgcn import light_propagation
from recbole_llmgraph.graph.sampled import SampledPairs
from recbole_llmgraph.loss.bpr import dual_bpr_positive
from recbole_llmgraph.model.signed import SignedRecommender
from recbole_llmgraph.train.settings import TrainSettings


class SiReNSettings(TrainSettings):
    """Settings of SiReN; defaults are the released ones but for `epochs`, which presets name."""

    learning_rate: PositiveFloat = 5e-3
    train_batch_size: PositiveInt = 1024
    embedding_size: PositiveInt = 64
    n_layers: NonNegativeInt = 4
    """L, layers of the graph of likes."""
    mlp_layers: PositiveInt = 2
    """M, layers of the perceptron of dislikes."""
    mlp_dropout: float = Field(default=0.5, ge=0, lt=1)
    attention_dropout: float = Field(default=0.5, ge=0, lt=1)
    use_dislikes: bool = True
    """Z is Z_p alone without them; their ratings stay in the loss."""
    liked_above: float = 3.5
    """Ratings above it are liked."""
    n_negatives: PositiveInt = 40
    negative_power: NonNegativeFloat = 0.75
    """Negatives are drawn by degree to this power."""
    c: PositiveFloat = 2.0
    """What a disliked item's score is multiplied by in the loss."""
    disliked: Literal["above", "mirrored"] = "above"
    """Where disliked items go, seen from those that the user did not meet: above, or below by the sign."""
    reg_weight: NonNegativeFloat = 0.05
    """Weight of the penalty on rows of Z."""
    reg_rows: Literal["draws", "once"] = "draws"
    """Whether a node's row counts as often as the batch names it, or once."""


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "c": [1.5, 2.0, 3.0],
    "n_layers": [1, 2, 3, 4],
    "learning_rate": [1e-3, 2e-3, 5e-3],
    "reg_weight": [0.01, 0.05, 0.1],
    "n_negatives": [10, 20, 40],
    "embedding_size": [32, 64, 128],
    "liked_above": [2.5, 3.5, 4.5],
}
#: What is taken away or exchanged, one at a time.
ablations: dict[str, dict[str, Any]] = {
    "no_dislikes": {"use_dislikes": False},
    "c_1": {"c": 1.0},
    "disliked_mirrored": {"disliked": "mirrored"},
    "reg_once": {"reg_rows": "once"},
}


class SiReN(SignedRecommender):
    """Sign-aware recommendation. Shapes as in `SignedRecommender`."""

    settings: ClassVar[type[SiReNSettings]] = SiReNSettings

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset, with ratings."""
        super().__init__(config, dataset)
        nodes, width = self.n_users + self.n_items, self.options.embedding_size
        self.liked_nodes, self.disliked_nodes = nn.Embedding(nodes, width), nn.Embedding(nodes, width)
        self.steps = nn.ModuleList(nn.Linear(width, width) for _ in range(self.options.mlp_layers))
        self.attention = nn.Linear(width, width)
        self.query = nn.Linear(width, 1, bias=False)
        for part in (self.liked_nodes, self.disliked_nodes, *self.steps):
            nn.init.xavier_normal_(part.weight)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Z_p and Z_n of all nodes. `[U + N, d]` each"""
        z = light_propagation(self.likes, self.liked_nodes.weight, self.options.n_layers)
        v = self.disliked_nodes.weight
        for step in self.steps:
            v = F.dropout(F.relu(step(v)), self.options.mlp_dropout, self.training)
        return z, v

    def fused(self) -> Tensor:
        """Z of all nodes. `[U + N, d]`"""
        if self.options.use_dislikes:
            return self._fuse(*self.forward())
        return light_propagation(self.likes, self.liked_nodes.weight, self.options.n_layers)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of one batch of ratings; negatives are drawn anew."""
        self.forget()
        nodes = self.fused()
        users, liked, drawn = self.draw(interaction)
        factor = -1.0 if self.options.disliked == "mirrored" else self.options.c
        scores = SampledPairs(users, drawn, self.n_users, self.n_items).scores(nodes)
        ranked = scores[:, 0] * liked.to(scores.dtype).mul_(1 - factor).add_(factor)
        penalty = (nodes.square().sum(dim=1) * self.named(users, drawn)).sum()
        loss: Tensor = dual_bpr_positive(ranked, scores[:, 1:]) + self.options.reg_weight * penalty
        return loss
