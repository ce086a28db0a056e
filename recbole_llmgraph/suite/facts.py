"""Facts beside a run: who was trained how often, and what was recommended how often (`store/facts.py`)."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array, diags_array

from recbole_llmgraph.artifact.text_features import made_features
from recbole_llmgraph.data.prepare import Prepared
from recbole_llmgraph.data.side import item_texts
from recbole_llmgraph.host.dataset import Split, target_pairs
from recbole_llmgraph.host.evaluation import Mask
from recbole_llmgraph.lm.text import hashed_tfidf
from recbole_llmgraph.store.facts import (
    CUTOFFS,
    ITEMS,
    ItemFacts,
    SplitFacts,
    write_item_facts,
    write_split_facts,
)
from recbole_llmgraph.suite.house import House

#: What calls lists diverse wherever there are texts, beside the sentence encoders that met them before.
WORDS, BUCKETS = "TF-IDF", 2**18
#: Length of the lists whose diversity is measured.
LIST = 10
#: Best items of every test user by mask, 0 where a list ends. `[users, k]`
Lists = dict[Mask, npt.NDArray[np.int32]]


def keep_facts(
    house: House, ready: Prepared, split: Split, users: npt.NDArray[np.int64], lists: Lists, folder: Path
) -> Path:
    """Keep the facts of a split in the store, and those of a run as a file in `folder`.

    Args:
        house: whose store and text vectors.
        ready: the prepared dataset, for its texts.
        split: what the run was judged on.
        users: internal ids of the test users, in the order of the lists. `[users]`
        lists: what they were recommended.
        folder: where the run's file goes.

    Returns:
        The run's file.
    """
    place = item_places(split)
    write_split_facts(house.store, split.fingerprint, split_facts(split, users, place))
    path = folder / ITEMS
    diversity = _diversity(house, ready, split, lists)
    write_item_facts(path, ItemFacts(item_counts(split, users, lists, place), diversity))
    return path


def item_places(split: Split) -> npt.NDArray[np.int64]:
    """Row of every item id among the sorted external tokens; -1 for padding. `[n_items]`"""
    tokens = split.item_tokens()[1:]
    place = np.full(split.n_items, -1, dtype=np.int64)
    place[1 + np.array(sorted(range(len(tokens)), key=tokens.__getitem__), dtype=np.int64)] = np.arange(
        len(tokens)
    )
    return place


def split_facts(split: Split, users: npt.NDArray[np.int64], place: npt.NDArray[np.int64]) -> SplitFacts:
    """How often users and items were met in training and in the test."""
    trained_users, trained_items = split.seen_pairs
    tested_users, tested_items = target_pairs(split.test)
    n = split.n_items - 1
    items = pd.DataFrame(
        {
            "trained": np.bincount(place[trained_items], minlength=n),
            "tested": np.bincount(place[tested_items], minlength=n),
        }
    )
    frame = pd.DataFrame({"trained": np.bincount(trained_users, minlength=split.n_users)[users]})
    if len(tested_users) == len(users) and np.array_equal(tested_users, users):
        frame["target"] = place[tested_items]
    return SplitFacts(frame, items)


def item_counts(
    split: Split, users: npt.NDArray[np.int64], lists: Lists, place: npt.NDArray[np.int64]
) -> pd.DataFrame:
    """How often each item was recommended, and was right."""
    pairs = target_pairs(split.test)
    wanted = np.unique(pairs[0] * split.n_items + pairs[1])
    columns = {}
    for mask, items in lists.items():
        right = np.isin(users[:, None] * split.n_items + items, wanted)
        for k in CUTOFFS:
            head, hit = items[:, :k], right[:, :k] & (items[:, :k] > 0)
            for name, shown in (("shown", head[head > 0]), ("hits", head[hit])):
                columns[f"{name}@{k}|{mask}"] = np.bincount(place[shown], minlength=split.n_items - 1)
    return pd.DataFrame(columns)


def _diversity(house: House, ready: Prepared, split: Split, lists: Lists) -> dict[str, dict[str, float]]:
    """Mean diversity of the lists by encoder and mask; nothing without texts."""
    texts = item_texts(ready)
    if not any(text.strip() for text in texts.values()):
        return {}
    ordered = ["", *(texts[token] for token in split.item_tokens()[1:])]
    vectors: dict[str, Any] = {WORDS: hashed_tfidf(ordered, BUCKETS)}
    for table in made_features(texts, house.artifacts):
        rows = [table.position[token] for token in split.item_tokens()[1:]]
        dense = np.zeros((split.n_items, table.rows.shape[1]), dtype=np.float32)
        dense[1:] = table.rows.numpy()[rows]
        vectors[str(table.meta["encoder"])] = csr_array(dense)
    told = {
        encoder: {mask: list_diversity(of, items[:, :LIST]) for mask, items in lists.items()}
        for encoder, of in vectors.items()
    }
    return {
        encoder: {str(mask): value for mask, value in found.items() if not np.isnan(value)}
        for encoder, found in told.items()
    }


def list_diversity(vectors: Any, items: npt.NDArray[np.int32]) -> float:
    """Mean over lists of the mean cosine distance between two of their items; NaN when no list has two.

    With unit vectors the sum over ordered pairs is |sum of vectors|^2 less one for each item.

    Args:
        vectors: sparse rows of every item id; zero for padding and for items without a text, which are
            left out. `[n_items, d]`
        items: ids. `[lists, k]`
    """
    norms = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel())
    unit = diags_array(np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)) @ vectors
    rows = np.repeat(np.arange(len(items)), items.shape[1])
    held = csr_array((np.ones(items.size), (rows, items.ravel())), (len(items), len(norms)))
    totals = (held @ unit).tocsr()
    told = (norms > 0)[items].sum(axis=1)
    full = told > 1
    squares = np.asarray(totals.multiply(totals).sum(axis=1)).ravel()[full]
    alike = (squares - told[full]) / (told[full] * (told[full] - 1))
    return float((1 - alike).mean()) if full.any() else float("nan")
