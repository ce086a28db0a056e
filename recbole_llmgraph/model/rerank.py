"""Reordering the head of a ranking by another opinion of its items (LAGCL4Rec's rerank level).

    new_j = (1 - w) s_j + w (min + softmax_j(2 r_j) (max - min))      `softmax_rank`
    new_j = (1 - w) z(s)_j + w z(o)_j, brought back to [min, max]       `zscore`

over the `top` best items that the user was not trained on; s are their scores, o the opinions, r_j counts the
items that o puts below j. With factor 2 the softmax gives its first item .865 and the second .117: one item
is promoted, little else moves. Scores of all other items stay as they are. Those further down stay below;
those that the user was trained on do not, since all but the promoted one are drawn towards min: under mask
`none`, which ranks these too, a reranked row says little.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from recbole_llmgraph.lm.classifier import YesNo
from recbole_llmgraph.oracle.cost import by_task
from recbole_llmgraph.oracle.opening import open_oracle
from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.oracle.questions import Item, Question, rerank_list, rerank_point
from recbole_llmgraph.oracle.text import clean

#: What a prompt shows of a user's taste.
LIKED, DISLIKED = 5, 3
#: Pieces of a classifier's prompt, and those at its end that ask: never cut.
PIECES, ASKING = LIKED + DISLIKED + 8, 3
#: A trained classifier, inside its folder.
WEIGHTS = "reranker.safetensors"
#: Settings that decide it.
PLAN = (
    "backbone tuning lora_rank dtype piece epochs learning_rate batch weight_decay warmup "
    "positives candidates rows"
)
RULES = (
    "Judge the candidate for this user. What matches the liked items suits. "
    "What looks like the disliked items does not. Change little."
)
#: Steepness of the softmax over ranks.
STEEPNESS = 2.0


@dataclass(frozen=True)
class Texts:
    """What a reranker reads.

    Attributes:
        items: by token.
        profiles: of users in words, by token.
        liked, disliked: items that each user's prompt shows, by token.
    """

    items: dict[str, Item]
    profiles: dict[str, str]
    liked: dict[str, list[str]]
    disliked: dict[str, list[str]]

    def save(self, path: Path) -> None:
        """Write as JSON."""
        items = {name: [item.title, *item.details] for name, item in self.items.items()}
        told = {"items": items, "profiles": self.profiles, "liked": self.liked, "disliked": self.disliked}
        path.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Texts":
        """Read what `save` wrote."""
        told = json.loads(path.read_text(encoding="utf-8"))
        items = {name: Item(name, text[0], tuple(text[1:])) for name, text in told.pop("items").items()}
        return cls(items, **told)

    def shown(self, user: str, more: Sequence[str] = ()) -> tuple[list[Item], list[Item]]:
        """Items for a prompt; `more` are disliked ones of the data level, after the user's own."""
        own = self.disliked.get(user, [])
        disliked = [*own, *(name for name in more if name not in own)][:DISLIKED]
        return (
            [self.items[name] for name in self.liked.get(user, [])[:LIKED]],
            [self.items[name] for name in disliked],
        )


class Reranker(Protocol):
    """Gives opinions; higher is better."""

    def opinions(
        self, users: Sequence[str], items: Sequence[Sequence[str]], scores: np.ndarray
    ) -> np.ndarray:
        """Of `k` items a user, by token, best first; `scores` are the recommender's. `[B, k]`

        NaN where there is no opinion.
        """


class OracleReranker:
    """Asks an oracle.

    Args:
        spec: who answers.
        texts: what is asked about.
        listwise: one question a user about all items, or one an item.
        cache: file of kept replies.
        options: of the oracle.
        disliked: disliked items of the data level by user.
    """

    def __init__(
        self,
        spec: str,
        texts: Texts,
        *,
        listwise: bool,
        cache: Path,
        options: OracleOptions,
        disliked: dict[str, list[str]] | None = None,
    ) -> None:
        self.texts, self.listwise, self.more = texts, listwise, disliked or {}
        self.oracle = open_oracle(spec, cache=cache, items=list(texts.items.values()), options=options)

    def opinions(
        self, users: Sequence[str], items: Sequence[Sequence[str]], scores: np.ndarray
    ) -> np.ndarray:
        """As `Reranker` says."""
        found = np.full(scores.shape, np.nan)
        asked = [self._ask(u, of, row) for u, of, row in zip(users, items, scores, strict=True)]
        answers = iter(self.oracle.ask([question for part in asked for question in part]))
        for row, (part, names) in enumerate(zip(asked, items, strict=True)):
            told = [next(answers).parsed for _ in part]
            if self.listwise and told and told[0]:
                order = {name: place for place, name in enumerate(told[0]["order"])}
                found[row, : len(names)] = [-float(order[name]) for name in names]
            elif not self.listwise:
                found[row, : len(told)] = [answer["score"] if answer else np.nan for answer in told]
        return found

    @property
    def costs(self) -> dict[str, Any]:
        """What the answers cost so far, by task."""
        return by_task(self.oracle.costs())

    def _ask(self, user: str, names: Sequence[str], scores: np.ndarray) -> list[Question]:
        liked, disliked = self.texts.shown(user, self.more.get(user, ()))
        out = set(names)
        taste: Any = {
            "liked": [item for item in liked if item.id not in out],
            "disliked": [item for item in disliked if item.id not in out],
            "about": user,
        }
        candidates, profile = [self.texts.items[name] for name in names], self.texts.profiles.get(user, "")
        if not self.listwise:
            return [rerank_point(profile, candidate, **taste) for candidate in candidates]
        told = [float(score) for score in scores[: len(names)]]
        return [rerank_list(profile, candidates, scores=told, **taste)] if len(names) > 1 else []


class ClassifierReranker:
    """Asks a trained classifier; its logits are the opinions.

    Args:
        model: the classifier.
        texts: what its prompts say.
        disliked: disliked items of the data level by user.
    """

    def __init__(self, model: YesNo, texts: Texts, disliked: dict[str, list[str]] | None = None) -> None:
        self.model, self.texts, self.more = model, texts, disliked or {}

    def opinions(
        self, users: Sequence[str], items: Sequence[Sequence[str]], scores: np.ndarray
    ) -> np.ndarray:
        """As `Reranker` says."""
        found = np.full(scores.shape, np.nan)
        places = [(row, column) for row, names in enumerate(items) for column in range(len(names))]
        prompts = []
        for row, column in places:
            user = users[row]
            pieces = prompt_pieces(self.texts, user, items[row][column], self.more.get(user, ()))
            prompts.append(self.model.ids(pieces, kept=ASKING))
        for (row, column), value in zip(places, self.model.scores(prompts) if prompts else (), strict=True):
            found[row, column] = value
        return found


def opened(settings: Any, seed: int, disliked: dict[str, list[str]], device: torch.device) -> Reranker:
    """The reranker that LAGCL4Rec's settings name, with what the suite filled in.

    Args:
        settings: of LAGCL4Rec.
        seed: of its run.
        disliked: disliked items of the data level by user.
        device: of the classifier.
    """
    texts = Texts.load(Path(settings.rerank_texts))
    if settings.rerank == "classifier":
        model = open_classifier(classifier_plan(settings), texts, seed).to(device)
        model.restore(Path(settings.reranker) / WEIGHTS)
        return ClassifierReranker(model, texts, disliked)
    options = OracleOptions.read(settings.oracle_options, "oracle_options")
    if settings.rerank_max_cost:
        options = options.model_copy(update={"max_cost": float(settings.rerank_max_cost)})
    return OracleReranker(
        settings.oracle,
        texts,
        listwise=settings.rerank == "oracle_listwise",
        cache=Path(settings.rerank_texts).parents[2] / "oracle.sqlite",
        options=options,
        disliked=disliked,
    )


def classifier_plan(settings: Any) -> dict[str, Any]:
    """Those of a model's settings that decide the classifier, without their common beginning `rerank_`."""
    return {name: getattr(settings, f"rerank_{name}") for name in PLAN.split()}


def open_classifier(plan: Mapping[str, Any], texts: Texts, seed: int) -> YesNo:
    """The classifier of a plan, untrained."""
    return YesNo(
        plan["backbone"],
        item_lines(texts),
        seed=seed,
        tuning=plan["tuning"],
        rank=plan["lora_rank"],
        dtype=plan["dtype"],
        piece=plan["piece"],
    )


def prompt_pieces(texts: Texts, user: str, candidate: str, more: Sequence[str] = ()) -> list[str]:
    """The classifier's prompt; the candidate itself is never shown as liked or disliked."""
    liked, disliked = (
        [item_line(item) for item in part if item.id != candidate] for part in texts.shown(user, more)
    )
    profile = texts.profiles.get(user, "")
    return [
        *(RULES, "User:", profile, "Liked:", *liked, "Disliked:", *disliked),
        *("Candidate:", item_line(texts.items[candidate]), "Suits?"),
    ]


def item_line(item: Item) -> str:
    """An item as the classifier reads it."""
    return clean(". ".join((item.title, *item.details)))


def item_lines(texts: Texts) -> list[str]:
    """All items by token: what a built-in tokenizer is learned from."""
    return [RULES, *(item_line(texts.items[name]) for name in sorted(texts.items))]


def reordered(scores: Tensor, masked: Tensor, top: int, opinions: Any, weight: float, mix: str) -> Tensor:
    """Scores with the head of each row's ranking mixed with opinions.

    Args:
        scores: `[B, N]`; column 0 is padding.
        masked: `[B, N]`, True where an item is no candidate.
        top: items of the head.
        opinions: function from items `[B, k]` (0 where a row has fewer) and scores to opinions `[B, k]`.
        weight: w, of the opinions.
        mix: `softmax_rank` or `zscore`.

    Returns:
        `[B, N]`; an item without an opinion keeps its score, and so does the only one of a row that has one.
    """
    allowed = scores.masked_fill(masked, -torch.inf)
    allowed[:, 0] = -torch.inf
    best = allowed.topk(min(top, scores.shape[1] - 1), dim=1)
    there = best.values > -torch.inf
    told = opinions(best.indices.masked_fill(~there, 0), best.values)
    new = best.values.clone()
    for row in range(len(new)):
        k = int(there[row].sum())
        opinion = torch.as_tensor(np.asarray(told[row][:k]), dtype=torch.float64, device=scores.device)
        own = (~opinion.isnan()).nonzero()[:, 0]
        if len(own) > 1:
            new[row, own] = mixed(best.values[row, own].double(), opinion[own], weight, mix).to(new.dtype)
    return scores.scatter(1, best.indices, torch.where(there, new, scores.gather(1, best.indices)))


def mixed(scores: Tensor, opinions: Tensor, weight: float, mix: str) -> Tensor:
    """One row's new scores, within [min, max] of the old ones. `[k]`, best first, `[k]`"""
    low, high = scores.min(), scores.max()
    if mix == "softmax_rank":
        order = torch.argsort(-opinions, stable=True)  # of equal ones, the recommender's order
        rank = torch.empty_like(opinions)
        rank[order] = torch.arange(len(opinions) - 1, -1, -1, dtype=opinions.dtype)
        share = torch.softmax(STEEPNESS * rank, dim=0)
        return (1 - weight) * scores + weight * (low + share * (high - low))
    blend = (1 - weight) * _z(scores) + weight * _z(opinions)
    spread = blend.max() - blend.min()
    return low + (blend - blend.min()) / spread * (high - low) if spread > 0 else scores


def _z(values: Tensor) -> Tensor:
    """Less the mean, over the standard deviation; zeros where all are equal."""
    spread = values.std(correction=0)
    return (values - values.mean()) / spread if spread > 0 else torch.zeros_like(values)
