"""IID: independent indexing; every item is one token of its own.

Paper: Hua et al., "How to Index Item IDs for Recommendation Foundation Models", SIGIR-AP 2023. GAL-Rec's
Table I prints it beside SID and CID.
Released code, read for facts only: Wenyueh/LLM-RecSys-ID @2200ad9, agiresearch/OpenP5 @7f11038.

    P(i | h) = softmax(E s_1)[i],   L = mean over rows of -log P(i | h)

One decoder step ranks the whole catalogue, so scores are exact and no beam is needed.

Shared by the family (`indexed.py`): of P5's prompts only those of the next item, which name no user; items
are rows of a table of their own, over which alone the softmax runs. An answer has no end token.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recbole_llmgraph.lm.packed import Packed
from recbole_llmgraph.lm.t5 import decode_first
from recbole_llmgraph.loss.cross_entropy import item_cross_entropy
from recbole_llmgraph.model.baseline.indexed import IndexedSettings, IndexedT5


class IIDSettings(IndexedSettings):
    """Settings of IID."""


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [5e-4, 1e-3, 2e-3],
    "weight_decay": [0.0, 0.01, 0.1],
}
#: What whole-word rows add.
ablations: dict[str, dict[str, Any]] = {"no_whole_word": {"whole_word": False}}


class IID(IndexedT5):
    """One token an item. V = N - 1."""

    settings: ClassVar[type[IndexedSettings]] = IIDSettings

    def make_codes(self, dataset: Any) -> tuple[np.ndarray, int]:
        """An item's only piece is its own. `[N, 1]`"""
        return np.arange(self.n_items)[:, None], self.n_items - 1

    def _answer_loss(self, states: Tensor, packed: Packed, targets: Tensor) -> Tensor:
        """The same loss without the matrix of scores."""
        return item_cross_entropy(self._first(states, packed), self._rows(), targets - 1)

    def _first(self, states: Tensor, packed: Packed) -> Tensor:
        """The decoder's state before its only piece. `[B, D]`"""
        return decode_first(self.decoder, self._start(), states, packed)

    def forward(self, interaction: Any) -> Tensor:
        """Scores of all items, padding at -inf. `[B, N]`"""
        scores = self._first(*self._read(interaction[self.ITEM_SEQ])) @ self._rows().T
        padding = scores.new_full((len(scores), 1), -float("inf"))
        return torch.cat([padding, scores], dim=1)
