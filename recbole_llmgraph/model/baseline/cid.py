"""CID: collaborative indexing; an item's clusters, from the widest to its own place in the last.

Paper: Hua et al., "How to Index Item IDs for Recommendation Foundation Models", SIGIR-AP 2023. GAL-Rec's
Table I prints it beside IID and SID.
Released code, read for facts only: Wenyueh/LLM-RecSys-ID @2200ad9, agiresearch/OpenP5 @7f11038, whose own CID
checkpoints do not reproduce its table (its issue 32).

    A[i, j]  = training histories that hold i and j
    spectral clusters of A, `clusters` of them; a cluster of more than `leaf` items is clustered again
    code(i)  = <CI a> <CI b> ... <CI place>
    P(i | h) = prod_t softmax(E s_t)[c_t]        c the code of i, s_t the decoder's state after c_1 .. c_t-1
    L        = mean over rows of -1/|c| sum_t log softmax(E s_t)[c_t]

Shared by the family (`indexed.py`): of P5's prompts only those of the next item, which name no user; pieces
are rows of a table of their own, over which alone the softmax runs; scores are sums of log-probabilities;
`beams`, and one beam for each item that the user met in training, rank the catalogue, and the items beyond
them share one floor.

Deviations:

* The clusters of a cluster are those of its part of A; the released code reads the upper triangle alone.
* Items without a training interaction form clusters of their own; the released code gives all of them codes
  of one token, which may begin other codes.
* An item's place in its last cluster is drawn once for all runs; eigenvectors are found on the sparse graph.
"""

from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from recbole_llmgraph.graph.spectral import item_codes
from recbole_llmgraph.host.dataset import item_tokens, training_pairs
from recbole_llmgraph.model.baseline.indexed import BeamSettings, BeamT5, IndexedSettings
from recbole_llmgraph.model.baseline.indexing import hashed_order


class CIDSettings(BeamSettings):
    """Settings of CID."""

    clusters: int = Field(default=20, ge=2)
    """Into which the items, and every large cluster, are split."""
    leaf: int = Field(default=500, ge=2)
    """Most items of a cluster that is not split again; tokens there are."""

    @model_validator(mode="after")
    def _sensible(self) -> "CIDSettings":
        if self.clusters > self.leaf:
            raise ValueError(f"clusters={self.clusters} is more than the tokens there are, leaf={self.leaf}")
        return self


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [5e-4, 1e-3, 2e-3],
    "weight_decay": [0.0, 0.01, 0.1],
    "clusters": [10, 20, 50],
    "leaf": [50, 100, 500],
    "beams": [20, 50, 100],
}
#: What whole-word rows add.
ablations: dict[str, dict[str, Any]] = {"no_whole_word": {"whole_word": False}}


class CID(BeamT5):
    """Collaborative indexing. V = `leaf`."""

    settings: ClassVar[type[IndexedSettings]] = CIDSettings
    options: CIDSettings

    def make_codes(self, dataset: Any) -> tuple[np.ndarray, int]:
        """Ways through the clusters of the training part. `[N, C]`"""
        order = hashed_order(item_tokens(dataset))
        n_users, options = int(dataset.num(self.USER_ID)), self.options
        codes = item_codes(*training_pairs(dataset), order, n_users, options.clusters, options.leaf)
        return codes, options.leaf
