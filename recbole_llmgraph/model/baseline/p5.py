"""P5: items are words `item_1234` in pieces, and whole-word rows say which pieces belong together.

Paper: Geng et al., "Recommendation as Language Processing (RLP): A Unified Pretrain, Personalized Prompt &
Predict Paradigm (P5)", RecSys 2022. GAL-Rec's Table I prints it beside SID, IID and CID.
Released code, read for facts only: jeykigung/P5.

    number(i) = 1, 2, ... in the order in which items first occur in training histories, user by user
    code(i)   = its digits from the left, two a piece, and an end: 7391 is 73 91 </s>, 12101 is 12 10 1 </s>
    input row of a piece = row of its digits + w_k, the same for all pieces of the k-th item
    P(i | h) = prod_t softmax(E s_t)[c_t]        c the code of i, s_t the decoder's state after c_1 .. c_t-1
    L        = mean over rows of -1/|c| sum_t log softmax(E s_t)[c_t]

Shared by the family (`indexed.py`): of P5's prompts only those of the next item, which name no user; pieces
are rows of a table of their own, over which alone the softmax runs; scores are sums of log-probabilities;
`beams`, and one beam for each item that the user met in training, rank the catalogue, and the items beyond
them share one floor.

The original numbers items as they come in whole histories, validation and test items among them: the number
after a user's last training item is often her target's. The author of SID names this a leak. The rule is kept
and reads training histories alone (`numbering: sequential`); `random` gives numbers that tell nothing. What
tells P5 from SID then is the cut: a tokenizer's, by which numbers of other lengths begin alike too.

Deviations:

* Numbers come from training histories alone; items without any come last, in an order that tells nothing.
* The cut is that of the paper's example (`73 91`), whatever the backbone's own tokenizer would do.
"""

from typing import Any, ClassVar, Literal

import numpy as np

from recbole_llmgraph.model.baseline.indexed import BeamSettings, BeamT5, IndexedSettings
from recbole_llmgraph.model.baseline.indexing import Numbering, item_numbers, word_codes, word_pieces


class P5Settings(BeamSettings):
    """Settings of P5."""

    digits: Literal[1, 2, 3] = 2
    """Most of one piece."""
    numbering: Numbering = "sequential"
    """Consecutive over the training histories, or at random."""


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [5e-4, 1e-3, 2e-3],
    "weight_decay": [0.0, 0.01, 0.1],
    "digits": [1, 2, 3],
    "numbering": ["sequential", "random"],
    "beams": [20, 50, 100],
}
#: What whole-word rows and consecutive numbers add.
ablations: dict[str, dict[str, Any]] = {
    "no_whole_word": {"whole_word": False},
    "random_numbers": {"numbering": "random"},
}


class P5(BeamT5):
    """P5 on one family of prompts. V = pieces of at most `digits` digits, and the end."""

    settings: ClassVar[type[IndexedSettings]] = P5Settings
    options: P5Settings

    def make_codes(self, dataset: Any) -> tuple[np.ndarray, int]:
        """Pieces of the items' numbers and the end. `[N, C]`"""
        return word_codes(self.numbers(dataset), self.options.digits), len(self.texts_of_pieces())

    def numbers(self, dataset: Any) -> np.ndarray:
        """Number of every item from 1, 0 for padding. `[N]`"""
        return item_numbers(dataset, self.options.numbering, 1)

    def texts_of_pieces(self) -> list[str]:
        """`0`, ..., `9`, `00`, ..., `99`, the end."""
        return word_pieces(self.options.digits)
