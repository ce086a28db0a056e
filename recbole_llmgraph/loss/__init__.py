"""Ranking and contrastive losses; the contrastive ones stream their keys. Knows no RecBole."""
