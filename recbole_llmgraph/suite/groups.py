"""Groups of items and users (LAGCL4Rec, 5.2): by an oracle, replayed, by k-means, or at random.

| `groups` | how |
|---|---|
| `oracle` | groups are proposed for 50 profiles at a time, merged, and everybody is assigned to one |
| `replay` | the groups that LAGCL4Rec's authors released for MovieLens-1M, by id as whole numbers |
| `kmeans` | seeded k-means on TF-IDF of texts; of users on what they liked less half the disliked |
| `random` | the released groups dealt out anew where there are any, else labels drawn evenly |

Ratings that are read are those of the training part. Whoever no answer names is in a group of its own kind,
the catch-all.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import write_json
from recbole_llmgraph.data.catalogue import Source
from recbole_llmgraph.data.locate import search_path
from recbole_llmgraph.data.prepare import Prepared
from recbole_llmgraph.data.sources import find
from recbole_llmgraph.model.needs import Groups
from recbole_llmgraph.oracle.cost import by_task
from recbole_llmgraph.oracle.grouping import group_count, k_means
from recbole_llmgraph.oracle.oracle import Oracle
from recbole_llmgraph.oracle.questions import LIKED_ABOVE, Item, group_assign, group_merge, group_propose
from recbole_llmgraph.oracle.vectors import ItemVectors, text_vectors
from recbole_llmgraph.suite.augment import oracle_recipe
from recbole_llmgraph.suite.edges import CACHE
from recbole_llmgraph.suite.house import House, dataset_fingerprint
from recbole_llmgraph.suite.profiles import (
    described_items,
    described_users,
    opened_for,
    profile_notes,
    profiles_recipe,
    tastes,
)

if TYPE_CHECKING:
    from recbole_llmgraph.suite.cell import Cell

KIND, FILE = "groups", "groups.tsv"
#: Profiles that are grouped or assigned in one question, and groups proposed for them at most.
AT_ONCE, PROPOSED = 50, 10
#: Released files by dataset and side, with the SHA-256 of their uncompressed bytes.
RELEASED = {
    "ml-1m": {
        "item": ("item_group.txt", "29880f63b4a4cf65b2d7189748d2c4b871079af17f820ecbb35f03af4631ea2c"),
        "user": ("user_group.txt", "18625e93c0eb5a0f46270ff95746db5ae80e94bea51b6b7a088781b840d83b98"),
    }
}
#: Token -> group of items and of users.
Assigned = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Grouped:
    """A file of lines `item|user<TAB>token<TAB>group`, what a row must tell, what answers cost by task."""

    path: Path
    notes: list[str]
    costs: dict[str, Any]


def groups_recipe(need: Groups, ready: Prepared, cell: "Cell") -> dict[str, Any]:
    """Everything that decides the groups; nothing is asked."""
    recipe: dict[str, Any] = {"source": need.source, "card": ready.card.name}
    if need.source in ("replay", "random") and ready.card.name in RELEASED:
        recipe["files"] = RELEASED[ready.card.name]
        return recipe | ({"seed": cell.seed} if need.source == "random" else {})
    recipe |= {"counts": list(need.counts), "dataset": dataset_fingerprint(ready, None, cell.protocol)}
    recipe |= {"protocol": cell.protocol, "held_out": cell.held_out}  # groups are of whoever trains
    if need.source == "random":
        return recipe | {"seed": cell.seed}
    recipe |= profiles_recipe(ready, need.profiles)
    if need.source == "oracle":
        recipe |= oracle_recipe(need.oracle, need.options, "group_propose", "group_merge", "group_assign")
        recipe["sizes"] = [AT_ONCE, PROPOSED]
    elif need.profiles == "oracle":
        recipe |= oracle_recipe(need.oracle, need.options, "item_profile")
    return recipe


def groups_file(
    need: Groups, ready: Prepared, cell: "Cell", house: House, rows: Callable[[], pd.DataFrame]
) -> Grouped:
    """The groups of a need, made now when they are not there yet.

    Args:
        need: which groups.
        ready: the dataset.
        cell: who needs them, for its split and seed.
        house: where artifacts and released files are looked for.
        rows: gives the training ratings by token.

    Raises:
        UserError: when released groups are asked for and not to be had.
    """
    recipe = groups_recipe(need, ready, cell)

    def make(folder: Path) -> None:
        assigned, told, costs = make_groups(need, ready, house, rows, cell.seed)
        lines = [f"{side}\t{name}\t{g}\n" for side, of in assigned.items() for name, g in of.items()]
        (folder / FILE).write_text("".join(lines), encoding="utf-8")
        write_json(folder / "summary.json", {"label": told, "notes": _notes(need, ready), "costs": costs})

    folder = house.artifacts.get(KIND, recipe, make)
    told = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return Grouped(folder / FILE, [f"groups: {told['label']}", *told["notes"]], told.get("costs", {}))


def make_groups(
    need: Groups, ready: Prepared, house: House, rows: Callable[[], pd.DataFrame], seed: int
) -> tuple[Assigned, str, dict[str, Any]]:
    """Groups of every item and user, how reports call them, and what answers cost by task."""
    if need.source == "replay":
        found = released_groups(ready, house.source)
        if found is None:
            raise UserError(
                f"groups=replay: no released groups for {ready.card.name} in --source or the source folders"
                f"{_wanted(ready)}; type --set groups=kmeans, or oracle"
            )
        return found, "replayed from LAGCL4Rec's release", {}
    if need.source == "random":
        return *_random(need, ready, house, rows, seed), {}
    ratings = rows()
    if need.source == "kmeans" and need.profiles != "oracle":
        items = described_items(ready, need.profiles)
        return _kmeans(need, items, ratings), "k-means on text (not an LLM)", {}
    oracle = opened_for(need, ready, house.artifacts.root / CACHE, house.max_cost)
    items = described_items(ready, need.profiles, oracle)
    if need.source == "kmeans":
        return _kmeans(need, items, ratings), f"k-means on what {oracle.label} wrote", by_task(oracle.costs())
    words = described_users(tastes(ratings, seed=0), items, need.profiles, oracle)
    users = [Item(user, text) for user, text in words.items()]
    sides = (("item", list(items.values()), need.counts[0]), ("user", users, need.counts[1]))
    found = {side: ask_groups(oracle, members, n, side) for side, members, n in sides}
    return found, oracle.label, by_task(oracle.costs())


def _wanted(ready: Prepared) -> str:
    """Which files would do."""
    names = [name for name, _ in RELEASED.get(ready.card.name, {}).values()]
    return f" ({' and '.join(names)} of LQgdwind/LAGCL4Rec, dataset/{ready.card.name}/)" if names else ""


def _notes(need: Groups, ready: Prepared) -> list[str]:
    """Where groups or their texts may have seen test ratings."""
    if need.source == "replay":
        return ["provenance unknown: released groups may have been made with test ratings in sight"]
    return profile_notes(ready, need.profiles) if need.source != "random" else []


def released_groups(ready: Prepared, source: Path | None) -> Assigned | None:
    """Groups that came with the paper, by this dataset's tokens; None where the files do not lie here.

    Ids are read as whole numbers on both sides. The release keeps whole numbers in its dictionary and asks it
    for text, so that not one of its look-ups finds anything.

    Raises:
        UserError: for a file of other content.
    """
    found: Assigned = {}
    for side, (name, digest) in RELEASED.get(ready.card.name, {}).items():
        entry = Source(file=name, holds=["items"], converter="movielens", sha256=digest, optional=True)
        file = find(ready.card, entry, search_path(ready.card, source))
        if file is None:
            return None
        if file.sha256() != digest:
            raise UserError(f"{file}: is not the released file (its SHA-256 differs); fetch it again")
        found[side] = read_released(file.read().decode("utf-8"))
    return found or None


def read_released(text: str) -> dict[str, int]:
    """Lines `id,group` as token -> group; tokens are whole numbers written plainly."""
    pairs = (line.split(",") for line in text.splitlines() if line.strip())
    return {str(int(name)): int(group) for name, group in pairs}


def _random(
    need: Groups, ready: Prepared, house: House, rows: Callable[[], pd.DataFrame], seed: int
) -> tuple[Assigned, str]:
    """Released groups dealt out anew, sizes kept; elsewhere labels drawn evenly."""
    rng = np.random.RandomState(seed)
    released = released_groups(ready, house.source)
    if released is not None:
        dealt = {
            side: dict(zip(of, (int(g) for g in rng.permutation(list(of.values()))), strict=True))
            for side, of in released.items()
        }
        return dealt, "control: the released groups dealt out at random"
    if ready.card.name in RELEASED:
        raise UserError(
            f"groups=random deals out the released groups of {ready.card.name}, which lie nowhere"
        )
    ratings = rows()
    names = {side: sorted(ratings[side].unique()) for side in ("item", "user")}
    counts = dict(zip(("item", "user"), need.counts, strict=True))
    drawn: Assigned = {}
    for side, of in names.items():
        labels = rng.randint(counts[side] or group_count(len(of)), size=len(of))
        drawn[side] = dict(zip(of, map(int, labels), strict=True))
    return drawn, "control: groups at random"


def _kmeans(need: Groups, items: Mapping[str, Item], ratings: pd.DataFrame) -> Assigned:
    """k-means of items by text, and of users by mean liked less half the mean disliked."""
    vectors = text_vectors(list(items.values()))
    rows, users = user_rows(vectors, list(items), ratings)
    of_items = k_means(vectors.rows, need.counts[0] or group_count(len(items)))
    of_users = k_means(rows, need.counts[1] or group_count(len(users)))
    return {
        "item": {name: int(g) for name, g in zip(items, of_items, strict=True)},
        "user": {name: int(g) for name, g in zip(users, of_users, strict=True)},
    }


def user_rows(
    vectors: ItemVectors, names: Sequence[str], ratings: pd.DataFrame
) -> tuple[np.ndarray, list[str]]:
    """Mean vector of what each user liked less half that of what the user disliked. `[users, d]`, tokens"""
    from scipy.sparse import csr_array

    users, row = np.unique(ratings["user"].to_numpy(dtype=str), return_inverse=True)
    place = {name: at for at, name in enumerate(names)}
    column = ratings["item"].map(place).to_numpy()
    liked = (ratings["rating"].isna() | (ratings["rating"] > LIKED_ABOVE)).to_numpy()
    total = np.zeros((len(users), vectors.rows.shape[1]))
    for sign, weight in ((liked, 1.0), (~liked, -0.5)):
        ones = csr_array((np.ones(sign.sum()), (row[sign], column[sign])), (len(users), len(names)))
        counts = np.maximum(np.asarray(ones.sum(axis=1)).ravel(), 1.0)
        total += weight * (ones @ vectors.rows) / counts[:, None]
    return total, [str(user) for user in users]


def ask_groups(oracle: Oracle, members: Sequence[Item], wanted: int, side: str) -> dict[str, int]:
    """Propose, merge, assign; whoever is left without a group is in the last one, the catch-all.

    Args:
        oracle: who answers.
        members: items, or users by profile.
        wanted: groups that may remain; 0 for the rounded root of the members.
        side: for messages.
    """
    batches = [members[at : at + AT_ONCE] for at in range(0, len(members), AT_ONCE)]
    proposals = oracle.ask(
        [
            group_propose(part, min(PROPOSED, len(part)), about=f"{side}s {n}")
            for n, part in enumerate(batches, 1)
        ]
    )
    told = [group for answer in proposals if answer.parsed for group in answer.parsed["groups"]]
    if not told:
        return dict.fromkeys((member.id for member in members), 0)
    lines = [Item(f"g{n}", group["name"], tuple(group["characteristics"])) for n, group in enumerate(told, 1)]
    most = min(wanted or group_count(len(members)), len(lines))
    (merged,) = oracle.ask([group_merge(lines, most, about=f"{side}s")])
    names = merged.parsed or {line.id: line.title for line in lines}
    kept: dict[str, Item] = {}
    for line in lines:  # a merged group is described by its first proposal
        kept.setdefault(names[line.id], Item(f"m{len(kept) + 1}", names[line.id], line.details))
    answers = oracle.ask(
        [group_assign(part, list(kept.values()), about=f"{side}s {n}") for n, part in enumerate(batches, 1)]
    )
    number = {group.id: n for n, group in enumerate(kept.values())}
    chosen = {name: of for answer in answers for name, of in (answer.parsed or {}).items()}
    return {member.id: number.get(chosen.get(member.id, ""), len(number)) for member in members}
