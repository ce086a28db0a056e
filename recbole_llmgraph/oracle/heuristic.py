"""The heuristic back-end: answers by arithmetic in the form of the templates. It is not a language model."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from recbole_llmgraph.base.hashing import hash_data
from recbole_llmgraph.oracle.backend import Reply, Results, Take
from recbole_llmgraph.oracle.cost import Price, Usage
from recbole_llmgraph.oracle.grouping import group_count, k_means, nearest, text_rows, top_terms
from recbole_llmgraph.oracle.metadata import describe_item, describe_user, detail_shares
from recbole_llmgraph.oracle.preference import preference
from recbole_llmgraph.oracle.questions import Item, Question, Task
from recbole_llmgraph.oracle.template import Template
from recbole_llmgraph.oracle.text import PROFILE_LIMIT, clean
from recbole_llmgraph.oracle.vectors import ItemVectors

#: Rises when the same question would get another answer.
REVISION = 1
#: What every reasoning says.
REASONING = "heuristic (not an LLM)"


class HeuristicBackend:
    """Deterministic answers from vectors of items and from their details.

    Args:
        vectors: of every item that questions may name.
        items: the catalogue, for the share of each detail; may be empty.
    """

    label = "heuristic (not an LLM)"
    decoding: Mapping[str, Any] = {}
    is_llm = False
    keeps = False
    parallel = False
    price: Price | None = None

    def __init__(self, vectors: ItemVectors, items: Sequence[Item] = ()) -> None:
        self.vectors = vectors
        self.shares = detail_shares(items)
        self.identity = f"heuristic.v{REVISION}:{vectors.identity}:{hash_data(self.shares)[:8]}"

    def most_tokens(self, form: Template) -> int:
        """None: nothing is generated."""
        return 0

    def work(self, take: Take) -> Results:
        """Answer call after call."""
        while (call := take()) is not None:
            yield [(call, Reply(ANSWERS[call.question.task](call.question, self), Usage()))]


def edge_pair(question: Question, backend: HeuristicBackend) -> str:
    """Most and least preferred candidate; of equal ones, the first is the favourite, the last the least."""
    ranked = _ranked(question, backend)
    return f"{ranked[0]}::{ranked[-1]}"


def item_profile(question: Question, backend: HeuristicBackend) -> str:
    """The item's metadata."""
    return profile_from_metadata(question, backend.shares)


def chosen(question: Question, backend: HeuristicBackend) -> str:
    """The most preferred candidates, or the least preferred ones, surest first."""
    ranked = _ranked(question, backend)
    names = ranked if question.task == "pos_gen" else ranked[::-1]
    return json.dumps({"items": names[: question.most], "reasoning": REASONING})


def proposed(question: Question, backend: HeuristicBackend) -> str:
    """Seeded k-means of the members, √n groups where more are allowed."""
    members = question.lines("members")
    rows = _rows(members, backend.vectors)
    labels = k_means(rows, min(question.most, group_count(len(members))))
    found = []
    for group, terms in enumerate(top_terms([member.text for member in members], labels)):
        inside = [member.id for member, label in zip(members, labels, strict=True) if label == group]
        # Two groups can share their top terms; a number keeps their names apart.
        name = f"{', '.join(terms)} ({group + 1})"
        found.append({"name": name, "characteristics": terms, "reasoning": REASONING, "members": inside})
    return json.dumps({"groups": found})


def merged(question: Question, backend: HeuristicBackend) -> str:
    """Seeded k-means of the groups' own words; a group's name is that of its first member."""
    lines = question.lines("groups")
    labels = k_means(text_rows([line.text for line in lines]), question.most)
    first = {int(label): line.title for line, label in reversed(list(zip(lines, labels, strict=True)))}
    return json.dumps({line.id: first[int(label)] for line, label in zip(lines, labels, strict=True)})


def assigned(question: Question, backend: HeuristicBackend) -> str:
    """The group whose words are nearest."""
    return json.dumps(assign_by_text(question))


def yes_or_no(question: Question, backend: HeuristicBackend) -> str:
    """Yes above a preference of zero; its logistic is the score."""
    (value,) = preference(question, backend.vectors)
    share = 1 / (1 + math.exp(-float(value)))
    return json.dumps({"answer": "yes" if value > 0 else "no", "p_yes": round(share, 6)})


def ordered(question: Question, backend: HeuristicBackend) -> str:
    """Candidates by preference; equal ones stay in their order."""
    return json.dumps({"order": _ranked(question, backend)})


def profile_from_metadata(question: Question, shares: Mapping[str, float]) -> str:
    """The metadata template of either profile, as JSON."""
    item = question.parts.get("item")
    if isinstance(item, Item):
        text = describe_item(item)
    else:
        text = describe_user(question.lines("liked"), question.lines("disliked"), shares)
    # An item without a title still gets a profile, which must not be empty.
    short = " ".join(clean(text, PROFILE_LIMIT).split()[:100]) or f"item {question.about}"
    return json.dumps({"summarization": short, "reasoning": "metadata"})


def assign_by_text(question: Question) -> dict[str, str]:
    """Each member's nearest group by TF-IDF of their words; the first group where no word is shared."""
    members, lines = question.lines("members"), question.lines("groups")
    rows = text_rows([line.text for line in (*members, *lines)])
    groups = nearest(rows[: len(members)], rows[len(members) :])
    return {member.id: lines[int(group)].id for member, group in zip(members, groups, strict=True)}


def _ranked(question: Question, backend: HeuristicBackend) -> list[str]:
    """Offered ids by falling preference; equal ones in the order offered."""
    value = preference(question, backend.vectors)
    return [question.offered[at] for at in np.argsort(-value, kind="stable")]


def _rows(members: Sequence[Item], vectors: ItemVectors) -> np.ndarray:
    """Vectors of the members where all have one, else TF-IDF of their words."""
    if all(member.id in vectors for member in members):
        return vectors.of([member.id for member in members])
    return text_rows([member.text for member in members])


ANSWERS: dict[Task, Callable[[Question, HeuristicBackend], str]] = {
    "edge_pair": edge_pair,
    "item_profile": item_profile,
    "user_profile": item_profile,
    "pos_gen": chosen,
    "neg_gen": chosen,
    "group_propose": proposed,
    "group_merge": merged,
    "group_assign": assigned,
    "rerank_point": yes_or_no,
    "rerank_list": ordered,
}
