"""LAGCL4Rec's data level: as many liked as disliked candidates for users with few ratings.

Positives are chosen among the best unseen candidates of the backbone, negatives among those further down and
the nearest neighbours, by text, of what the user disliked. Whatever was not offered is rejected, nothing is
filled up, and the longer side of a user is cut to the shorter one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_llmgraph.artifact.store import ArtifactStore
from recbole_llmgraph.base.files import write_json
from recbole_llmgraph.data.prepare import Prepared
from recbole_llmgraph.model.needs import Augmentation
from recbole_llmgraph.oracle.cost import by_task
from recbole_llmgraph.oracle.heuristic import REVISION
from recbole_llmgraph.oracle.opening import open_oracle
from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.oracle.oracle import Oracle
from recbole_llmgraph.oracle.questions import Item, Question, Task, neg_gen, pos_gen
from recbole_llmgraph.oracle.template import template
from recbole_llmgraph.oracle.vectors import ItemVectors, text_vectors, unit
from recbole_llmgraph.suite.edges import CACHE, DISLIKED, FILE, LIKED, NOWHERE, Edges
from recbole_llmgraph.suite.leave import read_candidates, read_ratings
from recbole_llmgraph.suite.profiles import (
    Taste,
    described_items,
    described_users,
    opened_for,
    profile_notes,
    profiles_recipe,
    tastes,
)

KIND = "augmentation"
#: Text neighbours of disliked items that are offered as negatives too.
NEIGHBOURS = 20


def oracle_recipe(spec: str, options: Mapping[str, Any], *tasks: Task) -> dict[str, Any]:
    """Who answers these tasks, by what decides the answers; limits on what may be asked do not."""
    if spec == "heuristic":  # by its name: its vectors' last digits differ between machines
        return {"oracle": spec, "revision": REVISION, "asked": [template(task).name for task in tasks]}
    read = OracleOptions.read(dict(options), "oracle_options").model_copy(update={"max_cost": None})
    oracle = open_oracle(spec, cache=NOWHERE, options=read, asking=False)
    return {"oracle": oracle.identity(*tasks)}


def augmentation_recipe(need: Augmentation, ready: Prepared, stage_key: str, seed: int) -> dict[str, Any]:
    """Everything that decides the edges; nothing is asked."""
    asked = {name: getattr(need, name) for name in ("sides", "users", "k", "top", "until")}
    return {
        **asked,
        **oracle_recipe(need.oracle, need.options, "pos_gen", "neg_gen"),
        **profiles_recipe(ready, need.profiles),
        "neighbours": NEIGHBOURS,
        "stage": stage_key,
        "seed": seed,
    }


def augmentation_file(
    need: Augmentation,
    ready: Prepared,
    stage_key: str,
    seed: int,
    artifacts: ArtifactStore,
    candidates: Callable[[], Path],
    max_cost: float | None = None,
) -> Edges:
    """The edges of a need, chosen now when they are not there yet; arguments as `edges_file`."""
    recipe = augmentation_recipe(need, ready, stage_key, seed)
    folder = artifacts.find(KIND, recipe)
    if folder is None:
        # opened first, so that no stage is trained for an oracle that is not there
        oracle = opened_for(need, ready, artifacts.root / CACHE, max_cost)
        stage = candidates()
        folder = artifacts.get(KIND, recipe, lambda to: choose_edges(to, need, ready, stage, seed, oracle))
    told = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return AugmentedEdges(folder / FILE, **told, sides=need.sides)


@dataclass(frozen=True)
class AugmentedEdges(Edges):
    """Edges of a balanced choice, the sides of it that are kept, and more to tell."""

    sides: str = "both"
    notes: Sequence[str] = ()

    @property
    def note(self) -> str:
        """What a reader of the row must know."""
        kept = {"both": "liked and as many disliked", "positive": "liked", "negative": "disliked"}[self.sides]
        told = (
            f"{self.liked:,} {kept} candidates for {self.asked:,} users by {self.label}, "
            f"{self.valid_rate:.1%} of the answers valid"
        )
        return "; ".join([told, *self.notes])


def choose_edges(
    folder: Path, need: Augmentation, ready: Prepared, stage: Path, seed: int, oracle: Oracle
) -> None:
    """Ask for every drawn user; write edges, answers and a summary."""
    offers, ratings = read_candidates(stage), read_ratings(stage)
    items = described_items(ready, need.profiles, oracle)
    known = tastes(ratings, seed)
    offers = offers[offers["user"].isin(chosen_users(ratings, need.users))]
    known = {user: known[user] for user in offers["user"]}
    words = described_users(known, items, need.profiles, oracle)
    questions = augment_questions(offers, ratings, known, words, items, need)
    answers = oracle.ask([question for pair in questions for question in pair])
    rows, valid = [], 0
    for (asked, _), good, bad in zip(questions, answers[::2], answers[1::2], strict=True):
        valid += good.valid + bad.valid
        rows.append([asked.about, *balanced(good.parsed, bad.parsed)])
    _write(folder, rows, need.sides)
    pd.DataFrame(rows, columns=["user", "liked", "disliked"]).to_parquet(folder / "answers.parquet")
    summary = {
        "label": oracle.label,
        "liked": sum(len(liked) for _, liked, _ in rows),
        "asked": len(rows),
        "valid_rate": valid / len(answers) if answers else 1.0,
        "costs": by_task(oracle.costs()),
        "notes": profile_notes(ready, need.profiles),
    }
    write_json(folder / "summary.json", summary)


def _write(folder: Path, rows: Sequence[Sequence[Any]], sides: str) -> None:
    """Edges of the sides that are kept."""
    lines = []
    for user, liked, disliked in rows:
        lines += [f"{user}\t{item}\t{LIKED}" for item in liked if sides != "negative"]
        lines += [f"{user}\t{item}\t{DISLIKED}" for item in disliked if sides != "positive"]
    (folder / FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def chosen_users(ratings: pd.DataFrame, users: str) -> list[str]:
    """Everybody, or those with fewer training ratings than the median user."""
    counts = ratings.groupby("user").size()
    chosen = counts if users == "all" else counts[counts < counts.median()]
    return [str(user) for user in chosen.index]


def balanced(good: Any, bad: Any) -> tuple[list[str], list[str]]:
    """Checked answers cut to equal length, surest first; nothing where one of them is missing."""
    liked, disliked = (list(answer["items"]) if answer else [] for answer in (good, bad))
    n = min(len(liked), len(disliked))
    return liked[:n], disliked[:n]


def augment_questions(
    offers: pd.DataFrame,
    ratings: pd.DataFrame,
    known: Mapping[str, Taste],
    words: Mapping[str, str],
    items: Mapping[str, Item],
    need: Augmentation,
) -> list[tuple[Question, Question]]:
    """What suits and what does not, for each user with candidates of both kinds."""
    vectors, names = text_vectors(list(items.values())), list(items)
    met = {str(user): set(part) for user, part in ratings.groupby("user")["item"]}
    questions = []
    for user, tokens, scores in zip(offers["user"], offers["items"], offers["scores"], strict=True):
        tokens, value = [str(token) for token in tokens], dict(zip(tokens, map(float, scores), strict=True))
        best, rest = tokens[: need.top], tokens[need.top : need.until]
        near = near_disliked(known[user].disliked, vectors, names, met[user] | {*best})
        rest += [token for token in near if token not in rest]
        if not best or not rest:
            continue
        low = min(value.values())
        taste = {side: [items[name] for name in getattr(known[user], side)] for side in ("liked", "disliked")}
        pair = [
            ask(
                words[user],
                [items[token] for token in part],
                min(need.k, len(part)),
                scores=[value.get(token, low) for token in part],
                about=user,
                **taste,
            )
            for ask, part in ((pos_gen, best), (neg_gen, rest))
        ]
        questions.append((pair[0], pair[1]))
    return questions


def near_disliked(
    disliked: Sequence[str], vectors: ItemVectors, names: Sequence[str], without: set[str]
) -> list[str]:
    """Items whose text is nearest to the mean of what was disliked, nearest first."""
    if not disliked:
        return []
    cosines = np.round(vectors.rows @ unit(vectors.of(disliked).mean(axis=0)), 6)
    order = np.argsort(-cosines, kind="stable")[: NEIGHBOURS + len(without)]
    near = [names[at] for at in order if cosines[at] > 0 and names[at] not in without]
    return near[:NEIGHBOURS]
