"""LLM-PNGNN: a positive and a negative rating graph, both widened by a language model's edges.

Paper: "LLM-PNGNN", which builds on SiReN (Seo et al., 2022) and PANE-GNN; no code was released. Seven of its
nine published settings are SiReN's defaults, so the attention and the sampler, which the paper leaves open,
are SiReN's.

    G_p: ratings above `liked_above`, G_n: the others; each with the oracle's edges (favourite 5, least 1)
    Z_p = mean_{l=0..K} A_p^l E_p,  V = mean_{l=0..K} A_n^l E_n          two tables, two LightGCNs
    w = q' tanh(W z + c);  (a_p, a_n) = softmax(w_p, w_n);  Z = a_p Z_p + a_n V      shared by all nodes
    s(u, i) = Z_u . Z_i
    L = - sum_{Bp} ln sigma(z_u.z_i - z_u.z_j) - sum_{Bn} ln sigma(v_u.v_j - b v_u.v_i) + reg |rows of E|^2

with 40 negatives j a rating, P(j) ~ d_j^0.75, never one that the user rated, liked or not. As printed, V
needs no change of sign: its loss makes v_u.v_i low where u dislikes i.

What the paper leaves open or has wrong, each a named setting:

* `loss_on`: as printed (`branch`), z and v are the branches and the attention has no gradient at all. `fused`
  puts Z in both terms; `both` (default) adds the two, which trains branches and attention.
* `b`: above 1, not published; 2 is the constant in SiReN.
* `disliked`: printed is ln sigma(v_j - b v_i), which puts a disliked item below one that the user did not
  meet (`below`). SiReN, whose b is 2, has ln sigma(b s_i - s_j): a rating of either sign says that the user
  chose to watch, so a disliked item goes above as well, less far than a liked one (`above`, default). With
  b > 1 the printed one is lowest where all scores are negative, most of all those of items that many rated:
  a Z that is trained by it ranks them last (docs/protocols.md).
* `reg_rows`: whether a node's row counts as often as the batch names it (`draws`, as SiReN sums) or once
  (default): forty negatives a rating make the first some twenty times as strong. With it
  PNGNN ends below the default on ml-1m and nearer the published table (reports/findings.md).
* Eq. 4 lacks a minus in an exponent (A is D^-1/2 A D^-1/2 here), and eq. 10's last case is v_u.v_j of a
  triple in Bn. Sums, not means: with means a regulariser of 0.05 would outweigh the loss.
* Candidates, prompt and language model are not published: see `suite/edges.py` and `oracle/`. The default
  `oracle: heuristic` is no language model, and its rows say so; `off` is PNGNN.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from recbole_llmgraph.graph.lightgcn import light_propagation
from recbole_llmgraph.graph.sampled import SampledPairs
from recbole_llmgraph.loss.bpr import dual_bpr_negative, dual_bpr_positive
from recbole_llmgraph.model.augmented import AugmentedSettings, edge_needs
from recbole_llmgraph.model.needs import Need
from recbole_llmgraph.model.signed import SignedRecommender


class LLMPNGNNSettings(AugmentedSettings):
    """Settings of LLMPNGNN; defaults are the published ones where there are any."""

    epochs: PositiveInt = 60
    learning_rate: PositiveFloat = 5e-3
    train_batch_size: PositiveInt = 4096
    eval_step: NonNegativeInt = 0
    """No early stopping: the last epoch stands."""
    embedding_size: PositiveInt = 64
    n_layers: NonNegativeInt = 4
    """K, layers of both graphs."""
    liked_above: float = 3.5
    """Ratings above it are liked."""
    n_negatives: PositiveInt = 40
    negative_power: NonNegativeFloat = 0.75
    """Negatives are drawn by degree to this power."""
    b: PositiveFloat = 2.0
    """How much further down a disliked item must go than one that the user did not meet."""
    disliked: Literal["below", "above"] = "above"
    """Where disliked items go, seen from those that the user did not meet: as printed, or as in SiReN."""
    reg_weight: NonNegativeFloat = 0.05
    """Weight of the penalty on rows of both tables."""
    reg_rows: Literal["draws", "once"] = "once"
    """Whether a node's row counts as often as the batch names it, or once."""
    attention_dropout: float = Field(default=0.5, ge=0, lt=1)
    loss_on: Literal["branch", "fused", "both"] = "both"
    oracle: str = "heuristic"


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "b": [1.1, 1.5, 2.0, 3.0],
    "n_layers": [1, 2, 3, 4],
    "learning_rate": [1e-3, 2e-3, 5e-3],
    "reg_weight": [0.01, 0.05, 0.1],
    "n_negatives": [10, 20, 40],
    "embedding_size": [32, 64, 128],
    "liked_above": [2.5, 3.5, 4.5],
    "edge_fraction": [0.25, 0.5, 0.75, 1.0],
}
#: What is taken away or exchanged, one at a time.
ablations: dict[str, dict[str, Any]] = {
    "no_llm": {"oracle": "off"},
    "random_edges": {"oracle": "random"},
    "popularity_edges": {"oracle": "popularity"},
    "random_candidates": {"oracle": "random-candidates"},
    "popularity_candidates": {"oracle": "popularity-candidates"},
    "loss_on_branches": {"loss_on": "branch"},
    "loss_on_fusion": {"loss_on": "fused"},
    "b_1": {"b": 1.0},
    "disliked_below": {"disliked": "below"},
    "as_printed": {"disliked": "below", "loss_on": "branch"},
    "reg_draws": {"reg_rows": "draws"},
}


class LLMPNGNN(SignedRecommender):
    """Positive and negative graph neural network. Shapes as in `SignedRecommender`."""

    settings: ClassVar[type[LLMPNGNNSettings]] = LLMPNGNNSettings

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset: ratings, and the oracle's edges."""
        super().__init__(config, dataset)
        disliked = dataset.inter_feat[self.RATING] <= self.options.liked_above
        self.dislikes = self.graph_of(dataset, disliked)
        nodes, width = self.n_users + self.n_items, self.options.embedding_size
        self.liked_nodes, self.disliked_nodes = nn.Embedding(nodes, width), nn.Embedding(nodes, width)
        self.attention = nn.Linear(width, width)
        self.query = nn.Linear(width, 1, bias=False)
        for table in (self.liked_nodes, self.disliked_nodes):
            nn.init.xavier_normal_(table.weight)

    @classmethod
    def needs(cls, settings: LLMPNGNNSettings) -> list[Need]:
        """The oracle's edges."""
        return edge_needs(settings)

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Z_p, V and Z of all nodes. `[U + N, d]` each"""
        layers = self.options.n_layers
        z = light_propagation(self.likes, self.liked_nodes.weight, layers)
        v = light_propagation(self.dislikes, self.disliked_nodes.weight, layers)
        return z, v, self._fuse(z, v)

    def fused(self) -> Tensor:
        """Z of all nodes. `[U + N, d]`"""
        return self.forward()[2]

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of one batch of ratings; negatives are drawn anew."""
        self.forget()
        z, v, fused = self.forward()
        users, liked, drawn = self.draw(interaction)
        loss: Tensor = self.options.reg_weight * self._penalty(users, drawn)
        branch, fusion = (self.options.loss_on in (name, "both") for name in ("branch", "fused"))
        for rows, table, of_sign in ((liked, z, self._liked_loss), (~liked, v, self._disliked_loss)):
            pairs = SampledPairs(users[rows], drawn[rows], self.n_users, self.n_items)
            for nodes in [table] * branch + [fused] * fusion:
                loss = loss + of_sign(pairs.scores(nodes))
        return loss

    def _liked_loss(self, scores: Tensor) -> Tensor:
        return dual_bpr_positive(scores[:, 0], scores[:, 1:])

    def _disliked_loss(self, scores: Tensor) -> Tensor:
        b = self.options.b
        if self.options.disliked == "above":
            return dual_bpr_positive(b * scores[:, 0], scores[:, 1:])
        return dual_bpr_negative(scores[:, 0], scores[:, 1:], b)

    def _penalty(self, users: Tensor, items: Tensor) -> Tensor:
        """Squared norms of the rows of both tables that the batch names. `[B]`, `[B, 1 + k]`"""
        norms = self.liked_nodes.weight.square() + self.disliked_nodes.weight.square()
        return (norms.sum(dim=1) * self.named(users, items)).sum()
