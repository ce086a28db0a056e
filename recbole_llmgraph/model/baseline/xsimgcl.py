"""XSimGCL: one noisy propagation, contrasted with one of its own layers.

Paper: Yu et al., "XSimGCL: Towards Extremely Simple Graph Contrastive Learning for Recommendation", TKDE
2023, arXiv 2209.02544.

    x^(l+1) = A x^l + sign(A x^l) * normalize(U[0, 1)) * noise;  E = mean_{l=1..L} x^l, without layer 0
    views: E and x^(contrast_layer) of the same pass;  s(u, i) = <E_u, E_i> without noise

The contrastive losses of users and of items are means (SimGCL's are sums); the other losses stand in
`model/baseline/contrast.py`. It is the backbone of LAGCL4Rec, whose data and groups it goes without.
"""

from typing import Any, ClassVar, Self

from pydantic import NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor

from recbole_llmgraph.graph.encoder import XSimGCLEncoder
from recbole_llmgraph.model.baseline.contrast import ContrastiveGCN, ContrastSettings, check_layer


class XSimGCLSettings(ContrastSettings):
    """Settings of XSimGCL; defaults are RecBole-GNN's."""

    noise: NonNegativeFloat = 0.2
    """Length of the noise in every layer (epsilon)."""
    contrast_layer: PositiveInt = 1
    """Layer that the final vectors are contrasted with, 1 .. n_layers."""

    @model_validator(mode="after")
    def _layer(self) -> Self:
        check_layer(self.contrast_layer, self.n_layers)
        return self


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [1e-3, 2e-3, 5e-3],
    "contrast_weight": [0.05, 0.1, 0.2, 0.5],
    "tau": [0.1, 0.2, 0.5],
    "n_layers": [2, 3],
}


class XSimGCL(ContrastiveGCN):
    """Extremely simple graph contrastive learning."""

    settings: ClassVar[type[XSimGCLSettings]] = XSimGCLSettings

    def make_encoder(self, users: Tensor, items: Tensor) -> XSimGCLEncoder:
        """One noisy propagation."""
        options = self.options
        return XSimGCLEncoder(
            users,
            items,
            self.n_users,
            self.n_items,
            options.n_layers,
            noise=options.noise,
            contrast_layer=options.contrast_layer,
        )
