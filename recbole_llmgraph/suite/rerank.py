"""What LAGCL4Rec's rerank level stands on: texts, and a classifier that is trained on the hold-out alone.

The classifier's positives are items of the hold-out that a user liked; its negatives are the best candidates,
at the same moment, of a stage that was trained without the hold-out. Neither test ratings nor anything that a
user was trained on is among them. The release trains on its test file.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from recbole_llmgraph.base.files import write_json
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.data.prepare import Prepared
from recbole_llmgraph.lm.classifier import LONGEST
from recbole_llmgraph.model.needs import ProfileVectors, Reranker, RerankTexts
from recbole_llmgraph.model.rerank import ASKING, PIECES, WEIGHTS, Texts, open_classifier, prompt_pieces
from recbole_llmgraph.oracle.cost import by_task
from recbole_llmgraph.oracle.questions import Task
from recbole_llmgraph.suite.augment import oracle_recipe
from recbole_llmgraph.suite.edges import CACHE
from recbole_llmgraph.suite.house import House, dataset_fingerprint
from recbole_llmgraph.suite.leave import read_candidates
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

TEXTS, RERANKER, FILE, COSTS = "rerank_texts", "reranker", "texts.json", "costs.json"
#: What an oracle is asked here, or by the model.
TASKS: tuple[Task, ...] = ("item_profile", "user_profile", "rerank_point", "rerank_list")
#: Candidates of the stage that negatives are drawn from.
AMONG = 50
#: Gives rows by token.
Rows = Callable[[], pd.DataFrame]
#: Needs that stand on the same texts.
OfTexts = RerankTexts | Reranker | ProfileVectors


@dataclass(frozen=True)
class Trained:
    """A classifier's folder, what a reader of the row must know, and its language model."""

    path: Path
    notes: list[str]
    backbone: str


def texts_recipe(need: OfTexts, ready: Prepared, cell: "Cell") -> dict[str, Any]:
    """Everything that decides the texts; nothing is asked."""
    split = {"protocol": cell.protocol, "held_out": cell.held_out, "seed": cell.seed}
    read = {
        **profiles_recipe(ready, need.profiles),
        "dataset": dataset_fingerprint(ready, None, cell.protocol),
    }
    return {**split, **read, **oracle_recipe(need.oracle, need.options, *TASKS)}


def texts_file(need: OfTexts, ready: Prepared, cell: "Cell", house: House, rows: Rows) -> Path:
    """The texts of a need, made from training ratings where they are not there yet."""

    def make(folder: Path) -> None:
        oracle = opened_for(need, ready, house.artifacts.root / CACHE, house.max_cost)
        items = described_items(ready, need.profiles, oracle)
        found = tastes(rows(), cell.seed)
        words = described_users(found, items, need.profiles, oracle)
        liked = {user: taste.liked for user, taste in found.items()}
        disliked = {user: taste.disliked for user, taste in found.items()}
        Texts(items, words, liked, disliked).save(folder / FILE)
        write_json(folder / COSTS, by_task(oracle.costs()))

    return house.artifacts.get(TEXTS, texts_recipe(need, ready, cell), make) / FILE


def texts_costs(file: Path) -> dict[str, Any]:
    """What answers cost by task that a file, or one beside it, is made of; older ones do not say."""
    told = file.with_name(COSTS)
    found: dict[str, Any] = json.loads(told.read_text(encoding="utf-8")) if told.exists() else {}
    return found


def texts_notes(need: OfTexts, ready: Prepared) -> list[str]:
    """What a reader of a row must know of the texts."""
    if need.profiles == "oracle":
        who = "heuristic (not an LLM)" if need.oracle == "heuristic" else need.oracle
        return [f"profiles by {who}"]
    return profile_notes(ready, need.profiles)


def reranker_recipe(need: Reranker, ready: Prepared, cell: "Cell", stage_key: str) -> dict[str, Any]:
    """Everything that decides the classifier; nothing is trained."""
    texts = texts_recipe(need, ready, cell.selecting)
    recipe = {**texts, "plan": dict(need.plan), "among": AMONG, "stage": stage_key}
    if need.plan["piece"] * PIECES >= LONGEST:  # prompts may be too long, and once they lost their candidate
        recipe["cut"] = "before the candidate"
    return recipe


def reranker_file(
    need: Reranker,
    ready: Prepared,
    cell: "Cell",
    house: House,
    stage_key: str,
    candidates: Callable[[], Path],
    rows: Rows,
    targets: Rows,
) -> Trained:
    """The classifier of a need, trained now when it is not there yet.

    Args:
        need: how.
        ready: the dataset.
        cell: who needs it.
        house: where artifacts lie.
        stage_key: run key of the stage that offers candidates.
        candidates: gives the stage's folder of candidates.
        rows: gives the ratings that the stage was trained on.
        targets: gives the hold-out's liked items.
    """

    def make(folder: Path) -> None:
        stage = candidates()
        texts = Texts.load(texts_file(need, ready, cell.selecting, house, rows))
        asked = training_rows(read_candidates(stage), targets(), need.plan, cell.seed)
        train_classifier(folder, need.plan, texts, asked, cell.seed, house.device)

    folder = house.artifacts.get(RERANKER, reranker_recipe(need, ready, cell, stage_key), make)
    told = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    note = (
        f"reranker {told['backbone']}, {told['parameters']:,} weights, trained on {told['rows']:,} "
        f"candidates of the hold-out, {told['positives']:,} of them liked; the epoch was picked without it"
    )
    if "seconds" in told:  # older ones do not say
        note += f"; its training, {told['seconds']:.0f} s, is not in this row's minutes"
    return Trained(folder, [note], told["backbone"])


def training_rows(
    offers: pd.DataFrame, targets: pd.DataFrame, plan: Any, seed: int
) -> list[tuple[str, str, int]]:
    """(user, item, liked) for users of the hold-out: its liked items, and candidates not among them."""
    rng = np.random.RandomState(seed)
    liked = {str(user): [str(i) for i in part] for user, part in targets.groupby("user")["item"]}
    found: list[list[tuple[str, str, int]]] = []
    for user, tokens in zip(offers["user"], offers["items"], strict=True):
        own = liked.get(str(user), [])
        good = [own[at] for at in rng.permutation(len(own))[: plan["positives"]]]
        pool = [str(token) for token in tokens[:AMONG] if str(token) not in own]
        bad = [pool[at] for at in rng.permutation(len(pool))[: max(0, plan["candidates"] - len(good))]]
        if good and bad:
            found.append([(str(user), item, int(item in good)) for item in (*good, *bad)])
    rows = [row for at in rng.permutation(len(found)) for row in found[at]]
    return rows[: plan["rows"]] if plan["rows"] else rows


def train_classifier(
    folder: Path,
    plan: Any,
    texts: Texts,
    asked: Sequence[tuple[str, str, int]],
    seed: int,
    device: str = "cpu",
) -> None:
    """Train and write a classifier and its summary."""
    started = time.perf_counter()
    model = open_classifier(plan, texts, seed).to(device)
    prompts = [model.ids(prompt_pieces(texts, user, item), kept=ASKING) for user, item, _ in asked]
    losses = model.fit(
        prompts,
        [label for _, _, label in asked],
        epochs=plan["epochs"],
        batch=plan["batch"],
        learning_rate=plan["learning_rate"],
        weight_decay=plan["weight_decay"],
        warmup=plan["warmup"],
        seed=seed,
    )
    say("reranker: loss " + ", ".join(f"{loss:.4f}" for loss in losses))
    model.save(folder / WEIGHTS)
    summary = {
        "backbone": model.name,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "rows": len(asked),
        "positives": sum(label for _, _, label in asked),
        "losses": losses,
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_json(folder / "summary.json", summary)
