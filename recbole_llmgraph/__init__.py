"""recbole_llmgraph: a benchmark suite on RecBole for recommenders that join a language model with a graph.

Model classes are importable from here (`from recbole_llmgraph import HeLLM`) and run from a user's own
RecBole script with `recbole_settings`. Nothing heavy is imported before it is asked for.
"""

from typing import Any

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
