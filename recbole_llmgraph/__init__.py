"""recbole_llmgraph: a benchmark suite on RecBole for recommenders that join a language model with a graph."""

__version__ = "0.1.0"
