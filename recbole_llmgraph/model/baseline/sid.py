"""SID: sequential indexing; consecutive numbers in pieces, so that items met together begin alike.

Paper: Hua et al., "How to Index Item IDs for Recommendation Foundation Models", SIGIR-AP 2023. GAL-Rec's
Table I prints it beside IID and CID.
Released code, read for facts only: Wenyueh/LLM-RecSys-ID @2200ad9, agiresearch/OpenP5 @7f11038.

    number(i) = 1001, 1002, ... in the order in which items first occur in training histories, user by user
    code(i)   = its digits, two a piece: 13101 is 01 31 01
    P(i | h) = prod_t softmax(E s_t)[c_t]        c the code of i, s_t the decoder's state after c_1 .. c_t-1
    L        = mean over rows of -1/|c| sum_t log softmax(E s_t)[c_t]

Shared by the family (`indexed.py`): of P5's prompts only those of the next item, which name no user; pieces
are rows of a table of their own, over which alone the softmax runs; scores are sums of log-probabilities;
`beams`, and one beam for each item that the user met in training, rank the catalogue, and the items beyond
them share one floor.

Deviations:

* Items without a training interaction are numbered last, in an order that tells nothing; the released code
  numbers them as they come in validation and test.
* T5's tokenizer cuts 1001 and 13101 in ways of its own; here all pieces have `digits` digits, with zeros in
  front.
"""

from typing import Any, ClassVar, Literal

import numpy as np

from recbole_llmgraph.model.baseline.indexed import BeamSettings, BeamT5, IndexedSettings
from recbole_llmgraph.model.baseline.indexing import item_numbers, number_codes, piece_texts

#: The first number.
FIRST = 1001


class SIDSettings(BeamSettings):
    """Settings of SID."""

    digits: Literal[1, 2, 3] = 2
    """Of one piece."""


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [5e-4, 1e-3, 2e-3],
    "weight_decay": [0.0, 0.01, 0.1],
    "digits": [1, 2, 3],
    "beams": [20, 50, 100],
}
#: What whole-word rows add.
ablations: dict[str, dict[str, Any]] = {"no_whole_word": {"whole_word": False}}


class SID(BeamT5):
    """Sequential indexing. V = 10^digits."""

    settings: ClassVar[type[IndexedSettings]] = SIDSettings
    options: SIDSettings

    def make_codes(self, dataset: Any) -> tuple[np.ndarray, int]:
        """Pieces of the items' numbers. `[N, C]`"""
        numbers = item_numbers(dataset, "sequential", FIRST)
        return number_codes(numbers, self.options.digits), 10**self.options.digits

    def texts_of_pieces(self) -> list[str]:
        """`00`, `01`, ..."""
        return piece_texts(self.options.digits)
