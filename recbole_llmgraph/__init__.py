"""recbole_llmgraph: a benchmark suite on RecBole for recommenders that join a language model with a graph.

Model classes are importable from here (`from recbole_llmgraph import HeLLM`) and run from a user's own
RecBole script with `recbole_settings`. Nothing heavy is imported before it is asked for.
"""

import os
from typing import Any

# Large tensors on huge pages, where the system offers them: a step over a large graph spends a third of its
# time on page faults otherwise. PyTorch reads this when it makes its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """A model class or `recbole_settings`, imported when first used."""
    if name == "recbole_settings":
        from recbole_llmgraph.suite.script import recbole_settings

        return recbole_settings
    if not name.startswith("_"):
        from recbole_llmgraph.model.catalogue import model_cards

        if name in model_cards():
            return model_cards()[name].load()
    raise AttributeError(f"module 'recbole_llmgraph' has no attribute '{name}'")
