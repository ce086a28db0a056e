"""What a trained stage leaves to later ones, by external tokens: vectors, candidates, the ratings it saw."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_llmgraph.artifact.store import ArtifactStore
from recbole_llmgraph.artifact.tables import save_table
from recbole_llmgraph.host.dataset import Split, seen_ratings, target_pairs
from recbole_llmgraph.host.evaluation import best_unseen

TABLE_FILE = "table.safetensors"
#: Kind of the artifact that an oracle chooses from.
CANDIDATES = "candidates"
#: Candidates kept a user, best first.
KEPT = 200
_ITEMS, _RATINGS = "items.parquet", "ratings.parquet"


def keep(artifacts: ArtifactStore, name: str, key: str, split: Split, model: Any) -> None:
    """Keep a model's item and user vectors, where it has them, and where it says so its candidates.

    Args:
        artifacts: where to.
        name: the model's.
        key: of its run.
        split: what it was trained on.
        model: trained; gives `item_table()`, `user_table()`, `keeps_candidates`.
    """
    recipe = {"model": name, "run": key}
    meta = {**recipe, "training_fingerprint": split.training_fingerprint}
    for kind, tokens in (("item_table", split.item_tokens()), ("user_table", split.user_tokens())):
        if hasattr(model, kind):
            rows = getattr(model, kind)()[1:].cpu()

            def make(folder: Path, tokens: list[str] = tokens[1:], rows: Any = rows) -> None:
                save_table(folder / TABLE_FILE, tokens, rows, meta)

            artifacts.get(kind, recipe, make)
    if getattr(model, "keeps_candidates", False) and seen_ratings(split.dataset):
        artifacts.get(CANDIDATES, recipe, lambda folder: save_candidates(folder, model, split))


def save_candidates(folder: Path, model: Any, split: Split) -> None:
    """Write a trained model's best unseen items and the training ratings."""
    users, tokens = np.array(split.user_tokens()), np.array(split.item_tokens())
    ids, scores = best_unseen(model, split, KEPT)
    lists = [tokens[row[row > 0]] for row in ids]
    values = [row[: len(items)] for row, items in zip(scores, lists, strict=True)]
    pd.DataFrame({"user": users[1:], "items": lists, "scores": values}).to_parquet(folder / _ITEMS)
    if (ratings := training_ratings(split)) is not None:
        ratings.to_parquet(folder / _RATINGS)


def training_ratings(split: Split) -> pd.DataFrame | None:
    """Columns `user`, `item`, `rating` of everything that trains, in external tokens."""
    if not (seen := seen_ratings(split.dataset)):
        return None
    users, tokens = np.array(split.user_tokens()), np.array(split.item_tokens())
    return pd.DataFrame({"user": users[seen.users], "item": tokens[seen.items], "rating": seen.values})


def rating_rows(split: Split) -> pd.DataFrame:
    """Columns `user`, `item` (tokens) and `rating` of everything training may know, by user and item.

    Ratings are NaN where the protocol has none: every row is then a liking.
    """
    rows = training_ratings(split)
    if rows is None:
        users, tokens = np.array(split.user_tokens()), np.array(split.item_tokens())
        pairs = split.training_pairs
        rows = pd.DataFrame({"user": users[pairs[0]], "item": tokens[pairs[1]], "rating": np.nan})
    return rows.sort_values(["user", "item"], ignore_index=True)


def target_rows(split: Split) -> pd.DataFrame:
    """Columns `user` and `item` (tokens) of the validation targets, by user and item."""
    users, items = target_pairs(split.valid)
    names, tokens = np.array(split.user_tokens()), np.array(split.item_tokens())
    rows = pd.DataFrame({"user": names[users], "item": tokens[items]})
    return rows.sort_values(["user", "item"], ignore_index=True)


def read_candidates(folder: Path) -> pd.DataFrame:
    """Columns `user`, `items` (tokens, best first) and `scores`; one row a user, by token."""
    return pd.read_parquet(folder / _ITEMS).sort_values("user", ignore_index=True)


def read_ratings(folder: Path) -> pd.DataFrame:
    """Columns `user`, `item`, `rating` of all training ratings, by user and item."""
    return pd.read_parquet(folder / _RATINGS).sort_values(["user", "item"], ignore_index=True)
