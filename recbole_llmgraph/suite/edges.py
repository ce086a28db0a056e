"""Edges that an oracle, or a control, adds to a rated graph (LLM-PNGNN).

For each user, ten unseen items of a collaborative filter are offered; the favourite becomes a rating of 5,
the least favourite a rating of 1. Controls pick the same number of edges without a language model:

| `oracle` | favourite and least favourite |
|---|---|
| `random`, `random-candidates` | two at random, of all unseen items or of the ten candidates |
| `popularity`, `popularity-candidates` | the most and the least rated, likewise |
| anything else | as `oracle/` names it: `heuristic`, `openai:…`, `hf:…`, `replay:…` |
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_llmgraph.artifact.store import ArtifactStore
from recbole_llmgraph.base.files import write_json
from recbole_llmgraph.base.hashing import hash_data
from recbole_llmgraph.data.prepare import Prepared
from recbole_llmgraph.data.side import item_fields
from recbole_llmgraph.model.needs import OracleEdges
from recbole_llmgraph.oracle.cost import by_task
from recbole_llmgraph.oracle.heuristic import REVISION
from recbole_llmgraph.oracle.opening import open_oracle
from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.oracle.oracle import Oracle
from recbole_llmgraph.oracle.questions import Item, Question, edge_pair
from recbole_llmgraph.oracle.template import template
from recbole_llmgraph.suite.leave import read_candidates, read_ratings

KIND, FILE = "oracle_edges", "edges.tsv"
#: Replies, in the folder of artifacts; and what stands for it where none is read or written.
CACHE, NOWHERE = "oracle.sqlite", Path(os.devnull)
#: Candidates offered, and rated items shown, a user.
OFFERED, SHOWN = 10, 20
LIKED, DISLIKED = 5, 1
#: Columns of the answers that are kept.
ANSWERS = ["user", "favourite", "least", "status", "raw"]
CONTROLS = ("random", "popularity", "random-candidates", "popularity-candidates")


@dataclass(frozen=True)
class Edges:
    """A file of edges and where it comes from.

    Attributes:
        path: lines `user<TAB>item<TAB>rating` in external tokens.
        label: who picked, as reports print it.
        liked: edges of either rating.
        asked: users who were asked about.
        valid_rate: share of usable answers.
        costs: tokens and money of the answers.
    """

    path: Path
    label: str
    liked: int
    asked: int
    valid_rate: float
    costs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """What a reader of the row must know."""
        return (
            f"{self.liked:,} liked and as many disliked edges for {self.asked:,} users by {self.label}, "
            f"{self.valid_rate:.1%} of the answers valid"
        )


def edges_recipe(need: OracleEdges, ready: Prepared, stage_key: str, seed: int) -> dict[str, Any]:
    """Everything that decides the edges; nothing is asked, and no limit on what may be enters."""
    recipe = {"oracle": need.oracle, "fraction": need.fraction, "stage": stage_key, "seed": seed}
    recipe |= {"offered": OFFERED, "shown": SHOWN}
    if need.oracle in CONTROLS:
        return recipe
    recipe["texts"] = hash_data(item_fields(ready))
    if need.oracle == "heuristic":  # by its name: its vectors' last digits differ between machines
        return recipe | {"template": template("edge_pair").name, "revision": REVISION, "options": {}}
    return recipe | {"oracle": opened(need, ready, NOWHERE, asking=False).identity("edge_pair")}


def opened(
    need: OracleEdges, ready: Prepared, cache: Path, *, max_cost: float | None = None, asking: bool = True
) -> Oracle:
    """The oracle of a need that is no control.

    Args:
        need: who picks, and options.
        ready: the dataset, for what items are called.
        cache: file of replies.
        max_cost: instead of the option of that name; not looked at unless `asking`.
        asking: whether questions may be asked, and not just counted.

    Raises:
        UserError: when it cannot be opened.
    """
    options = OracleOptions.read(dict(need.options), "oracle_options")
    limit = (max_cost or options.max_cost) if asking else None
    return open_oracle(
        need.oracle,
        cache=cache,
        items=list(catalogue(ready).values()),
        options=options.model_copy(update={"max_cost": limit}),
        asking=asking,
    )


def edges_file(
    need: OracleEdges,
    ready: Prepared,
    stage_key: str,
    seed: int,
    artifacts: ArtifactStore,
    candidates: Callable[[], Path],
    max_cost: float | None = None,
) -> Edges:
    """The edges of a need, picked now when they are not there yet.

    Args:
        need: who picks, for how many users.
        ready: the dataset, for what items are called.
        stage_key: run key of the stage that offers candidates.
        seed: of the users who are asked, the ratings that are shown, and random controls.
        artifacts: where edges and answers are kept.
        candidates: gives the stage's folder of candidates.
        max_cost: US dollars that all replies in the artifacts' cache may have cost together.

    Raises:
        UserError: when the oracle cannot be opened, or too few answers are valid.
    """
    recipe = edges_recipe(need, ready, stage_key, seed)
    folder = artifacts.find(KIND, recipe)
    if folder is None:
        oracle = None
        if need.oracle not in CONTROLS:  # opened first, so that no stage is trained for one that is not there
            oracle = opened(need, ready, artifacts.root / CACHE, max_cost=max_cost)
        stage = candidates()
        folder = artifacts.get(KIND, recipe, lambda to: pick_edges(to, need, ready, stage, seed, oracle))
    told = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return Edges(folder / FILE, **told)


def pick_edges(
    folder: Path, need: OracleEdges, ready: Prepared, stage: Path, seed: int, oracle: Oracle | None
) -> None:
    """Ask for every drawn user; write edges, answers and a summary."""
    offers, ratings = drawn_users(read_candidates(stage), need.fraction, seed), read_ratings(stage)
    costs: dict[str, Any] = {}
    if oracle is None:
        label = f"control {need.oracle} (not an LLM)"
        answers = control_answers(need.oracle, offers, ratings, list(item_fields(ready)), seed)
    else:
        label = oracle.label
        answers = oracle_answers(oracle, edge_questions(offers, ratings, catalogue(ready), seed))
        costs = by_task(oracle.costs())
    valid = answers[answers["favourite"].notna()]
    lines = [f"{user}\t{item}\t{LIKED}" for user, item in zip(valid["user"], valid["favourite"], strict=True)]
    lines += [f"{user}\t{item}\t{DISLIKED}" for user, item in zip(valid["user"], valid["least"], strict=True)]
    (folder / FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    answers.to_parquet(folder / "answers.parquet")
    rate = len(valid) / len(answers) if len(answers) else 1.0
    summary = {"label": label, "liked": len(valid), "asked": len(answers), "valid_rate": rate, "costs": costs}
    write_json(folder / "summary.json", summary)


def drawn_users(offers: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """Rows of the users who are asked about: of those with a choice, a fraction that the seed draws."""
    offers = offers[offers["items"].map(len) >= 2]
    drawn = np.random.RandomState(seed).permutation(len(offers))[: round(fraction * len(offers))]
    return offers.iloc[np.sort(drawn)].reset_index(drop=True)


def catalogue(ready: Prepared) -> dict[str, Item]:
    """Every item as a prompt shows it: title, then genres and year. By token."""
    found = {}
    for token, told in item_fields(ready).items():
        lists = (told.get(name) or [] for name in ("categories", "release_year", "brand"))
        details = [text for value in lists for text in (value if isinstance(value, list) else [value])]
        found[token] = Item(token, str(told.get("title") or told.get("keywords") or ""), tuple(details))
    return found


def edge_questions(
    offers: pd.DataFrame, ratings: pd.DataFrame, items: Mapping[str, Item], seed: int
) -> list[Question]:
    """One question a user: up to `SHOWN` of the training ratings, best first, and `OFFERED` candidates."""
    by_user = {str(user): part for user, part in ratings.groupby("user", sort=False)}
    questions = []
    for user, tokens, scores in _rows(offers):
        shown = _shown(by_user[user], user, seed) if user in by_user else []
        history = [replace(items[token], rating=value) for token, value in shown]
        candidates = [items[token] for token in tokens[:OFFERED]]
        questions.append(edge_pair(history, candidates, scores=scores[:OFFERED], about=user))
    return questions


def _rows(offers: pd.DataFrame) -> list[tuple[str, list[str], list[float]]]:
    """User, candidates and their scores, best first."""
    columns = zip(offers["user"], offers["items"], offers["scores"], strict=True)
    return [
        (str(user), [str(i) for i in items], [float(s) for s in scores]) for user, items, scores in columns
    ]


def _shown(part: pd.DataFrame, user: str, seed: int) -> list[tuple[str, float]]:
    """A user's ratings for a prompt, drawn by seed and user alone; items by token, best rating first."""
    own = int.from_bytes(hashlib.sha256(f"{seed}/{user}".encode()).digest()[:4], "little")
    rows = np.sort(np.random.RandomState(own).permutation(len(part))[:SHOWN])
    drawn = part.iloc[rows].sort_values("rating", ascending=False, kind="stable")
    return [(str(item), float(value)) for item, value in zip(drawn["item"], drawn["rating"], strict=True)]


def oracle_answers(oracle: Oracle, questions: Sequence[Question]) -> pd.DataFrame:
    """Columns `user`, `favourite`, `least` (None without a valid answer), `status`, `raw`."""
    rows = []
    for question, answer in zip(questions, oracle.ask(questions), strict=True):
        picked = answer.parsed or {}
        pair = picked.get("favourite"), picked.get("least")
        rows.append([question.about, *pair, answer.status, answer.raw])
    return pd.DataFrame(rows, columns=ANSWERS)


def control_answers(
    kind: str, offers: pd.DataFrame, ratings: pd.DataFrame, items: Sequence[str], seed: int
) -> pd.DataFrame:
    """The same columns from a control; equally popular items by token."""
    everything = np.array(sorted(items))
    counts = ratings["item"].value_counts()
    met = {str(user): set(part) for user, part in ratings.groupby("user")["item"]}
    rng, rows = np.random.RandomState(seed), []
    for user, tokens, _ in _rows(offers):
        if kind.endswith("-candidates"):
            pool = np.array(sorted(tokens[:OFFERED]))
        else:
            pool = np.array([token for token in everything if token not in met.get(user, ())])
        if kind.startswith("random"):
            favourite, least = rng.permutation(len(pool))[:2]
        else:
            order = np.argsort([-counts.get(token, 0) for token in pool], kind="stable")
            favourite, least = order[0], order[-1]
        rows.append([user, str(pool[favourite]), str(pool[least]), "ok", ""])
    return pd.DataFrame(rows, columns=ANSWERS)
