"""What is asked: one function a task, each from plain data to a `Question`.

| task | asks | checked answer (`Answer.parsed`) |
|---|---|---|
| `edge_pair` | the best and the worst of some candidates for one user | `{"favourite": id, "least": id}` |
| `item_profile`, `user_profile` | a description | `{"summarization": text, "reasoning": text}` |
| `pos_gen`, `neg_gen` | candidates that suit a user, or do not | `{"items": [id, …], "reasoning": text}` |
| `group_propose` | groups among some items or users | `{"groups": [{name, characteristics, …}, …]}` |
| `group_merge` | one name for groups that are one | `{old name: new name}` |
| `group_assign` | a group for each item or user | `{id: name}` |
| `rerank_point` | whether one candidate suits | `{"yes": bool, "score": 0…1}` |
| `rerank_list` | candidates from best to worst | `{"order": [id, …]}` |

A question holds no rendered text: a template of the task's name makes the prompt, so that what a dataset
says stays apart from what is asked.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from recbole_llmgraph.oracle.text import check_id

Task = Literal[
    "edge_pair",
    "item_profile",
    "user_profile",
    "pos_gen",
    "neg_gen",
    "group_propose",
    "group_merge",
    "group_assign",
    "rerank_point",
    "rerank_list",
]
TASKS: tuple[Task, ...] = get_args(Task)
#: Ratings above this are liked (LLM-PNGNN's offset), the others disliked.
LIKED_ABOVE = 3.5


@dataclass(frozen=True)
class Item:
    """One line of a prompt: an item, or anything else with an id and a text (a user by profile, a group).

    Attributes:
        id: external token.
        title: its text.
        details: genres, brand, year, summary, …; one string each.
        rating: what the user gave; None when unrated.
    """

    id: str
    title: str
    details: tuple[str, ...] = ()
    rating: float | None = None

    @property
    def text(self) -> str:
        """Title and details, for vectors."""
        return " ".join((self.title, *self.details))


@dataclass(frozen=True)
class Question:
    """One question; made by the functions below.

    Attributes:
        task: which template asks it and which rules check its answer.
        about: the user, item or batch it is about; for messages alone, in no prompt and no key.
        parts: what the template shows, by the template's names.
        offered: ids that an answer may name.
        liked: ids behind the user's taste, for the heuristic.
        disliked: likewise.
        scores: of each offered id by a collaborative filter, for the heuristic; may be empty.
        most: ids or groups that an answer may name at most; 0 where the task fixes it.
    """

    task: Task
    about: str = ""
    parts: Mapping[str, "Part"] = field(default_factory=dict)
    offered: tuple[str, ...] = ()
    liked: tuple[str, ...] = ()
    disliked: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    most: int = 0


#: What a template can show.
Part = str | int | Item | tuple[Item, ...]


def edge_pair(
    history: Sequence[Item],
    candidates: Sequence[Item],
    *,
    scores: Sequence[float] = (),
    about: str = "",
    liked_above: float = LIKED_ABOVE,
) -> Question:
    """Favourite and least favourite of the candidates for a user (LLM-PNGNN's augmentation).

    Args:
        history: rated items, about twenty; unrated ones count as liked.
        candidates: at least two items, none of them in the history.
        scores: of the candidates by a collaborative filter; the heuristic alone reads them.
        about: the user.
        liked_above: ratings above it are liked.

    Raises:
        ValueError: for fewer than two candidates, repeated ids, or a candidate out of the history.
    """
    offered = _offer(candidates, history, scores)
    if len(offered) < 2:
        raise ValueError("edge_pair needs at least two candidates")
    liked, disliked = _tastes(history, liked_above)
    parts: dict[str, Part] = {"history": tuple(history), "candidates": tuple(candidates)}
    return Question("edge_pair", about, parts, offered, liked, disliked, tuple(scores))


def _tastes(history: Iterable[Item], liked_above: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids that were liked and disliked."""
    rated = [(item.id, item.rating is None or item.rating > liked_above) for item in history]
    return tuple(i for i, liked in rated if liked), tuple(i for i, liked in rated if not liked)


def _offer(candidates: Sequence[Item], history: Sequence[Item], scores: Sequence[float]) -> tuple[str, ...]:
    """The candidates' ids, checked."""
    offered = tuple(check_id(item.id) for item in candidates)
    known = [check_id(item.id) for item in history]
    if repeated := sorted({name for name in offered if offered.count(name) > 1}):
        raise ValueError(f"candidate '{repeated[0]}' is offered twice")
    if both := sorted(set(offered) & set(known)):
        raise ValueError(f"candidate '{both[0]}' stands in the history")
    if scores and len(scores) != len(offered):
        raise ValueError(f"{len(scores)} scores for {len(offered)} candidates")
    return offered
