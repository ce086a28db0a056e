"""Intermediate results kept by the hash of their recipe: text features, embeddings, oracle answers."""
