"""SGL: views from two graphs that lack some edges, drawn anew every epoch.

Paper: Wu et al., "Self-supervised Graph Learning for Recommendation", SIGIR 2021, arXiv 2010.10783.

    E = mean_{l=0..L} A^l x^0;  views: the same on two graphs without a fraction `edge_drop` of the edges

This is SGL-ED, the variant that the paper recommends. RecBole's SGL contrasts the batch's nodes with all
nodes and adds up both losses; here, as in SELFRec, they are contrasted among themselves and both losses are
means, like those of XSimGCL and SimGCL beside it (`model/baseline/contrast.py`).
"""

from typing import Any, ClassVar

from pydantic import Field, PositiveInt
from torch import Tensor

from recbole_llmgraph.graph.encoder import SGLEncoder
from recbole_llmgraph.model.baseline.contrast import ContrastiveGCN, ContrastSettings


class SGLSettings(ContrastSettings):
    """Settings of SGL."""

    n_layers: PositiveInt = 3
    edge_drop: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of the edges that each of an epoch's two graphs lacks."""


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [1e-3, 2e-3, 5e-3],
    "contrast_weight": [0.05, 0.1, 0.2, 0.5],
    "tau": [0.1, 0.2, 0.5],
    "edge_drop": [0.1, 0.3],
    "n_layers": [2, 3],
}


class SGL(ContrastiveGCN):
    """Self-supervised graph learning with edge dropout."""

    settings: ClassVar[type[SGLSettings]] = SGLSettings

    def make_encoder(self, users: Tensor, items: Tensor) -> SGLEncoder:
        """A propagation on the graph and one on each of the epoch's two."""
        options = self.options
        return SGLEncoder(users, items, self.n_users, self.n_items, options.n_layers, drop=options.edge_drop)
