"""What an oracle, a heuristic or a reranker reads about items and users (LAGCL4Rec's profiles).

| `profiles` | items | users |
|---|---|---|
| `metadata` | title, genres, year | the genres that stand out among up to 20 liked and 20 disliked items |
| `summary` | the same, and a one-line summary that came with the dataset | the same |
| `oracle` | what the oracle says of the metadata | what the oracle says of these items |
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.hashing import hash_data
from recbole_llmgraph.data.prepare import Prepared
from recbole_llmgraph.data.side import item_fields, item_texts
from recbole_llmgraph.oracle.metadata import describe_user, detail_shares
from recbole_llmgraph.oracle.opening import open_oracle
from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.oracle.oracle import Oracle
from recbole_llmgraph.oracle.questions import LIKED_ABOVE, Item, item_profile, user_profile
from recbole_llmgraph.oracle.template import template
from recbole_llmgraph.suite.edges import catalogue

#: Items of each sign that a user's profile is made from.
SHOWN = 20
#: Text field of a dataset that holds one-line summaries.
SUMMARY = "summary"


@dataclass(frozen=True)
class Taste:
    """What a user liked and disliked among the items shown, by token."""

    liked: list[str]
    disliked: list[str]


def described_items(ready: Prepared, profiles: str, oracle: Oracle | None = None) -> dict[str, Item]:
    """Every item with the details that its profile has, by token.

    Raises:
        UserError: when summaries are asked for and the dataset has none.
    """
    items = catalogue(ready)
    if profiles == "summary":
        if SUMMARY not in ready.manifest["text_fields"]:
            told = f"profiles=summary: {ready.card.name} has no summaries"
            raise UserError(f"{told}; type --set profiles=metadata")
        summaries = item_texts(ready, [SUMMARY])
    elif profiles == "metadata" or oracle is None:
        return items
    else:
        answers = oracle.ask([item_profile(item) for item in items.values()])
        summaries = {
            name: answer.parsed["summarization"] if answer.parsed else ""
            for name, answer in zip(items, answers, strict=True)
        }
    return {
        name: replace(item, details=(*item.details, summaries[name])) if summaries[name] else item
        for name, item in items.items()
    }


def tastes(ratings: pd.DataFrame, seed: int, most: int = SHOWN) -> dict[str, Taste]:
    """Up to `most` liked and disliked items of every user, drawn by seed and user alone."""
    liked = (ratings["rating"].isna() | (ratings["rating"] > LIKED_ABOVE)).to_numpy()
    items = ratings["item"].to_numpy()
    found = {}
    for user, rows in ratings.groupby("user", sort=True).indices.items():
        own = int.from_bytes(hashlib.sha256(f"{seed}/{user}".encode()).digest()[:4], "little")
        rows = np.sort(rows)[np.random.RandomState(own).permutation(len(rows))]
        signs = (rows[liked[rows]], rows[~liked[rows]])
        found[str(user)] = Taste(*([str(items[row]) for row in part[:most]] for part in signs))
    return found


def described_users(
    found: Mapping[str, Taste], items: Mapping[str, Item], profiles: str, oracle: Oracle | None = None
) -> dict[str, str]:
    """A profile of every user in words, by token."""
    if profiles == "oracle" and oracle is not None:
        questions = [
            user_profile(_of(items, taste.liked), _of(items, taste.disliked), about=user)
            for user, taste in found.items()
        ]
        answers = oracle.ask(questions)
        return {
            user: answer.parsed["summarization"] if answer.parsed else ""
            for user, answer in zip(found, answers, strict=True)
        }
    shares = detail_shares(list(items.values()))
    return {
        user: describe_user(_of(items, taste.liked), _of(items, taste.disliked), shares)
        for user, taste in found.items()
    }


class Asking(Protocol):
    """What a need says of its oracle."""

    @property
    def oracle(self) -> str:
        """Who is asked."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Options."""


def opened_for(need: Asking, ready: Prepared, cache: Path, max_cost: float | None) -> Oracle:
    """The oracle of a need, which knows the items' metadata.

    Args:
        need: who is asked, and options.
        ready: the dataset.
        cache: file of replies.
        max_cost: US dollars that replies in it may have cost, instead of the option of that name.
    """
    read = OracleOptions.read(dict(need.options), "oracle_options")
    read = read.model_copy(update={"max_cost": max_cost or read.max_cost})
    return open_oracle(need.oracle, cache=cache, items=list(catalogue(ready).values()), options=read)


def _of(items: Mapping[str, Item], names: Sequence[str]) -> list[Item]:
    return [items[name] for name in names]


def profiles_recipe(ready: Prepared, profiles: str) -> dict[str, Any]:
    """What decides the profiles, apart from who answers and which ratings there are."""
    told: dict[str, Any] = {"profiles": profiles, "texts": hash_data(item_fields(ready)), "shown": SHOWN}
    if profiles == "summary" and SUMMARY in ready.manifest["text_fields"]:
        told["summaries"] = hash_data(item_texts(ready, [SUMMARY]))
    if profiles == "oracle":
        told["templates"] = [template("item_profile").name, template("user_profile").name]
    return told


def profile_notes(ready: Prepared, profiles: str) -> list[str]:
    """What a reader of a row must know."""
    if profiles == "summary" and SUMMARY in ready.manifest["provenance_unknown"]:
        return ["provenance unknown: one-line summaries by another language model stand in for item profiles"]
    return []
