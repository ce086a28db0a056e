"""NCL: LightGCN whose nodes are drawn to their neighbours in structure and to their clusters in meaning.

Paper: Lin et al., "Improving Graph Collaborative Filtering with Neighborhood-enriched Contrastive Learning",
WWW 2022, arXiv 2202.06200. Released code (RecBole), read for facts only: RUCAIBox/NCL.

    x^(l) = A^l x^(0);  E = mean_{l=0..L} x^(l);  s(u, i) = <E_u, E_i>
    L   = BPR + lambda1 (S_users + alpha S_items) + lambda2 (P_users + P_items) + reg |rows of x^(0)|^2
    S   = sum_{rows b} -ln e^(cos(x_b^(2k), x_b^(0)) / tau) / sum_v e^(cos(x_b^(2k), x_v^(0)) / tau)
    P   = sum_{rows b} -ln e^(cos(x_b^(0), c_b) / tau) / sum_c e^(cos(x_b^(0), c) / tau)

v runs over all nodes of b's side, c over its centroids, and c_b is that of b's cluster. E step: k-means
of users and of items by x^(0) when every `m_step`-th epoch begins; M step: the epochs themselves. The first
`warm_up` epochs go without P. Layer 2k may lie above L. Keys are streamed (`loss/cross_entropy.py`); a node
that a batch names several times is computed once and counted as often, which is the same sum.

Deviations, each a named setting where there is a choice:

* Clusters come from scikit-learn's mini-batch k-means, always, for a run's numbers must not depend on whether
  faiss, which the release needs, is installed. Its number of steps is fixed, its seed follows from run and
  epoch. There are at most half as many clusters as nodes of a side.
* `require_pow`: squared norms, as the paper's penalty and LightGCN's here; False: plain norms, as released.
* `contrast_reduction: sum` (default, as released): S and P are sums over a batch beside a BPR that is a mean,
  hence weights of 1e-7, which grow with the batch; `mean` takes means.
* `contrast_rows`: S and P of some rows, drawn in every step, scaled up to the batch: the same in expectation
  (`standard` on the larger data sets; all rows, as published, by default).
* Padding is no node, and negatives are drawn from what a user did not meet, liked or not.
"""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor

from recbole_llmgraph.graph.encoder import layer_mean, noisy_layers
from recbole_llmgraph.graph.sampled import SampledPairs
from recbole_llmgraph.loss.bpr import bpr
from recbole_llmgraph.loss.cross_entropy import item_cross_entropy
from recbole_llmgraph.loss.group_infonce import COLDEST
from recbole_llmgraph.loss.infonce import unit
from recbole_llmgraph.model.baseline.contrast import ContrastiveGCN, ContrastSettings
from recbole_llmgraph.train.randomness import epoch_seed

#: Rows of one step of k-means, and passes over all nodes.
KMEANS_ROWS, KMEANS_PASSES = 4096, 10


class NCLSettings(ContrastSettings):
    """Settings of NCL; defaults are the released ones."""

    n_layers: PositiveInt = 3
    contrast_weight: NonNegativeFloat = 1e-7
    """lambda1, of the contrast with structural neighbours."""
    tau: float = Field(default=0.1, ge=COLDEST)
    contrast_reduction: Literal["mean", "sum"] = "sum"
    contrast_rows: NonNegativeInt = 0
    """Rows of a batch that S and P are estimated from; 0 takes all."""
    item_weight: NonNegativeFloat = 1.0
    """alpha, of items beside users in the structural contrast."""
    hops: PositiveInt = 1
    """k: layer 2k is contrasted with layer 0."""
    prototype_weight: NonNegativeFloat = 8e-8
    """lambda2, of the contrast with clusters."""
    n_clusters: PositiveInt = 1000
    """Clusters of each side."""
    m_step: PositiveInt = 1
    """Epochs between two clusterings."""
    warm_up: NonNegativeInt = 20
    """Epochs without clusters."""
    require_pow: bool = True
    """Penalise squared norms, as the paper; False penalises norms, as the release."""


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [1e-3, 2e-3, 5e-3],
    "contrast_weight": [1e-8, 1e-7, 1e-6, 1e-5],
    "prototype_weight": [1e-8, 8e-8, 1e-6],
    "tau": [0.05, 0.1, 0.15],
    "n_clusters": [100, 500, 1000, 2000],
    "n_layers": [1, 2, 3],
}
#: What is taken away, one at a time (the paper's Figure 3), and its other penalty.
ablations: dict[str, dict[str, Any]] = {
    "no_structure": {"contrast_weight": 0.0},
    "no_prototypes": {"prototype_weight": 0.0},
    "plain_norms": {"require_pow": False},
}


class NCL(ContrastiveGCN):
    """Neighbourhood-enriched contrastive learning.

    Shapes: U users and N items, padding included and without edges; n = U + N nodes, width d; B rows.
    """

    settings: ClassVar[type[ContrastSettings]] = NCLSettings

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        self.sides = (("user", 0, self.n_users), ("item", self.n_users, self.n_items))
        for name, _, count in self.sides:
            clusters = min(self.options.n_clusters, max(1, (count - 1) // 2))
            self.register_buffer(f"{name}_centroids", torch.zeros(clusters, self.options.embedding_size))
            self.register_buffer(f"{name}_clusters", torch.zeros(count, dtype=torch.long))
        self._seed = int(config["seed"])
        self._epoch, self._told, self._due = -1, False, False

    # -- E step ------------------------------------------------------------------------

    def train(self, mode: bool = True) -> "NCL":
        """Switch mode; under a trainer that does not tell epochs, each switch to training is one."""
        super().train(mode)
        if mode and not self._told:
            self._epoch, self._due = self._epoch + 1, True
        return self

    def start_epoch(self, epoch: int) -> None:
        """The next step clusters first, if the epoch is one that does."""
        self._epoch, self._told, self._due = epoch, True, True

    def e_step(self) -> None:
        """Cluster users and items by layer 0."""
        for name, start, count in self.sides:
            rows = self.nodes.weight.detach()[start + 1 : start + count].cpu().numpy()
            seed = epoch_seed(self._seed, f"clusters of {name}s", self._epoch) % 2**32
            centroids = getattr(self, f"{name}_centroids")
            found, labels = k_means(rows, len(centroids), seed)
            centroids.copy_(unit(torch.from_numpy(found)))
            getattr(self, f"{name}_clusters")[1:] = torch.from_numpy(labels)

    @property
    def _enriched(self) -> bool:
        options = self.options
        return bool(self._epoch >= options.warm_up and options.prototype_weight > 0)

    # -- losses ------------------------------------------------------------------------

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of one batch of liked pairs."""
        self.forget()
        options = self.options
        turn = self._epoch == options.warm_up or self._epoch % options.m_step == 0
        if self._due and self._enriched and turn:
            self.e_step()
        self._due = False
        users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        drawn = self.drawn_items(users, items)
        x = self.nodes.weight
        deepest = max(options.n_layers, 2 * options.hops)
        layers = [x, *noisy_layers(self.encoder.adjacency, x, deepest, 0.0)]
        pairs = SampledPairs(users, drawn, self.n_users, self.n_items)
        scores = pairs.scores(layer_mean(layers[: options.n_layers + 1]))
        loss: Tensor = bpr(scores[:, 0], scores[:, 1]) + options.reg_weight * self._norms(x, users, drawn)
        scale = len(users) if options.contrast_reduction == "sum" else 1
        if 0 < options.contrast_rows < len(users):
            rows = torch.randperm(len(users), device=users.device)[: options.contrast_rows]
            users, items = users[rows], items[rows]
        for part, ids, share in zip(self.sides, (users, items), (1.0, options.item_weight), strict=True):
            nodes, counts = ids.unique(return_counts=True)
            if options.contrast_weight * share > 0:
                one = self.structure(part, nodes, counts, layers[2 * options.hops])
                loss = loss + options.contrast_weight * share * scale * one
            if self._enriched:
                loss = loss + options.prototype_weight * scale * self.prototypes(part, nodes, counts)
        return loss

    def structure(self, part: tuple[str, int, int], nodes: Tensor, counts: Tensor, context: Tensor) -> Tensor:
        """Mean of S over a batch's rows of one side: ids `[m]`, how often each, layer 2k `[n, d]`."""
        _, start, count = part
        center = unit(self.nodes.weight[start + 1 : start + count])
        anchors = unit(context[nodes + start]) / self.options.tau
        return item_cross_entropy(anchors, center, nodes - 1, weights=counts.to(anchors.dtype))

    def prototypes(self, part: tuple[str, int, int], nodes: Tensor, counts: Tensor) -> Tensor:
        """Mean of P over a batch's rows of one side: ids `[m]`, how often each."""
        name, start, _ = part
        anchors = unit(self.nodes.weight[nodes + start]) / self.options.tau
        own = getattr(self, f"{name}_clusters")[nodes]
        centroids = getattr(self, f"{name}_centroids")
        return item_cross_entropy(anchors, centroids, own, weights=counts.to(anchors.dtype))

    def _norms(self, x: Tensor, users: Tensor, drawn: Tensor) -> Tensor:
        """RecBole's `EmbLoss` of the rows `[B]`, `[B, 2]` of a batch: halved squares, or norms, by B."""
        squares = x.square().sum(1)
        parts = [squares[ids].sum() for ids in (users, *(drawn + self.n_users).T)]
        total = torch.stack(parts if self.options.require_pow else [part.sqrt() for part in parts]).sum()
        return total / (len(users) * (2 if self.options.require_pow else 1))


def k_means(rows: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mini-batch k-means with a fixed number of steps: nothing depends on how many threads add up.

    Args:
        rows: `[m, d]` in float32.
        clusters: at most m.
        seed: of the first centroids and of the steps' rows.

    Returns:
        Centroids `[clusters, d]` and each row's `[m]`.
    """
    from sklearn.cluster import MiniBatchKMeans

    found = MiniBatchKMeans(
        clusters,
        batch_size=KMEANS_ROWS,
        max_iter=KMEANS_PASSES,
        n_init=1,
        tol=0.0,
        max_no_improvement=None,
        random_state=seed,
    ).fit(rows)
    return found.cluster_centers_, found.labels_.astype(np.int64)
