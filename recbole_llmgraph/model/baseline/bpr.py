"""Matrix factorisation trained on pairs, RecBole's own.

Paper: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.

The papers' L2 penalty is `weight_decay`, as RecBole's BPR has none of its own.
"""

from typing import Any, ClassVar

from pydantic import PositiveInt

from recbole_llmgraph.host import originals
from recbole_llmgraph.host.models import config_values
from recbole_llmgraph.train.settings import TrainSettings


class BPRSettings(TrainSettings):
    """Settings of BPR."""

    embedding_size: PositiveInt = 64


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [5e-4, 1e-3, 2e-3],
    "weight_decay": [0.0, 1e-6, 1e-5],
    "embedding_size": [32, 64, 128],
}


class BPR(originals.BPR):
    """Matrix factorisation: s(u, i) = <p_u, q_i>."""

    settings: ClassVar[type[BPRSettings]] = BPRSettings
    batching: ClassVar[str] = "uniform"

    @classmethod
    def recbole_config(cls, settings: BPRSettings) -> dict[str, Any]:
        """Config keys of these settings; negatives are RecBole's uniform ones, one a positive."""
        return config_values(settings)
