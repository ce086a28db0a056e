"""SimGCL: noise in every layer gives the two views, no graph is changed.

Paper: Yu et al., "Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for Recommendation",
SIGIR 2022, arXiv 2112.08679.

    x^(l+1) = A x^l + sign(A x^l) * normalize(U[0, 1)) * noise;  view = mean_{l=1..L} x^l, twice
    E = mean_{l=1..L} A^l x^0 without noise;  s(u, i) = <E_u, E_i>

`contrast_reduction: sum` (default, as RecBole-GNN) adds the contrastive losses of a batch's nodes up, beside
a BPR that is a mean; the authors' own code sums both, so that with means of both (`mean`, in the presets) the
published weight keeps its meaning. The losses stand in `model/baseline/contrast.py`.
"""

from typing import Any, ClassVar, Literal

from pydantic import NonNegativeFloat
from torch import Tensor

from recbole_llmgraph.graph.encoder import SimGCLEncoder
from recbole_llmgraph.model.baseline.contrast import ContrastiveGCN, ContrastSettings


class SimGCLSettings(ContrastSettings):
    """Settings of SimGCL; defaults are RecBole-GNN's."""

    contrast_weight: NonNegativeFloat = 0.5
    contrast_reduction: Literal["mean", "sum"] = "sum"
    noise: NonNegativeFloat = 0.1
    """Length of the noise in every layer (epsilon)."""


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [1e-3, 2e-3, 5e-3],
    "contrast_weight": [0.05, 0.1, 0.2, 0.5],
    "tau": [0.1, 0.2, 0.5],
    "n_layers": [2, 3],
}


class SimGCL(ContrastiveGCN):
    """Simple graph contrastive learning."""

    settings: ClassVar[type[SimGCLSettings]] = SimGCLSettings

    def make_encoder(self, users: Tensor, items: Tensor) -> SimGCLEncoder:
        """A clean propagation and two noisy ones."""
        options = self.options
        return SimGCLEncoder(users, items, self.n_users, self.n_items, options.n_layers, noise=options.noise)
