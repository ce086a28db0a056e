"""Settings as yaml, one file a model or dataset; ships as `recbole_llmgraph.properties`, holds no code."""
