"""What is asked: one function a task, each from plain data to a `Question`.

| task | asks | checked answer (`Answer.parsed`) |
|---|---|---|
| `edge_pair` | the best and the worst of some candidates for one user | `{"favourite": id, "least": id}` |
| `item_profile`, `user_profile` | a description | `{"summarization": text, "reasoning": text}` |
| `pos_gen`, `neg_gen` | candidates that suit a user, or do not | `{"items": [id, …], "reasoning": text}` |
| `group_propose` | groups among some items or users | `{"groups": [{name, characteristics, …}, …]}` |
| `group_merge` | one name for groups that are one | `{group id: name}` |
| `group_assign` | a group for each item or user | `{id: group id}` |
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
        choices: ids of groups to assign to.
    """

    task: Task
    about: str = ""
    parts: Mapping[str, "Part"] = field(default_factory=dict)
    offered: tuple[str, ...] = ()
    liked: tuple[str, ...] = ()
    disliked: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    most: int = 0
    choices: tuple[str, ...] = ()

    def lines(self, name: str) -> tuple[Item, ...]:
        """A part that is a list of lines."""
        part = self.parts[name]
        return part if isinstance(part, tuple) else ()


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


def item_profile(item: Item, *, about: str = "") -> Question:
    """What an item is and whom it suits, from its metadata."""
    return Question("item_profile", about or item.id, {"item": item}, (check_id(item.id),))


def user_profile(liked: Sequence[Item], disliked: Sequence[Item] = (), *, about: str = "") -> Question:
    """What a user likes; about twenty items of each kind, their summaries among the details."""
    parts: dict[str, Part] = {"liked": tuple(liked), "disliked": tuple(disliked)}
    return Question("user_profile", about, parts, (), _ids(liked), _ids(disliked))


def pos_gen(
    profile: str,
    candidates: Sequence[Item],
    most: int,
    *,
    liked: Sequence[Item] = (),
    disliked: Sequence[Item] = (),
    scores: Sequence[float] = (),
    about: str = "",
) -> Question:
    """Up to `most` candidates that suit a user (LAGCL4Rec's positive interactions).

    Args:
        profile: the user's, in words.
        candidates: items that the user has not met.
        most: items that may be named.
        liked: items of the history; shown, as examples.
        disliked: likewise.
        scores: of the candidates by a collaborative filter; the heuristic alone reads them.
        about: the user.
    """
    return _generate("pos_gen", profile, candidates, most, liked, disliked, scores, about)


def neg_gen(
    profile: str,
    candidates: Sequence[Item],
    most: int,
    *,
    liked: Sequence[Item] = (),
    disliked: Sequence[Item] = (),
    scores: Sequence[float] = (),
    about: str = "",
) -> Question:
    """Up to `most` candidates that do not suit a user; arguments as in `pos_gen`."""
    return _generate("neg_gen", profile, candidates, most, liked, disliked, scores, about)


def _generate(
    task: Task,
    profile: str,
    candidates: Sequence[Item],
    most: int,
    liked: Sequence[Item],
    disliked: Sequence[Item],
    scores: Sequence[float],
    about: str,
) -> Question:
    offered = _offer(candidates, [*liked, *disliked], scores)
    if not 1 <= most <= len(offered):
        raise ValueError(f"{task} may name {most} of {len(offered)} candidates")
    parts = _taste_parts(profile, liked, disliked)
    parts |= {"candidates": tuple(candidates), "most": most}
    return Question(task, about, parts, offered, _ids(liked), _ids(disliked), tuple(scores), most)


def group_propose(members: Sequence[Item], most: int, *, about: str = "") -> Question:
    """At most `most` groups among some items or users (by profile), about fifty at once."""
    offered = _offer(members, (), ())
    if not 1 <= most <= len(offered):
        raise ValueError(f"at most {most} groups of {len(offered)} members")
    return Question("group_propose", about, {"members": tuple(members), "most": most}, offered, most=most)


def group_merge(groups: Sequence[Item], most: int, *, about: str = "") -> Question:
    """At most `most` names for proposed groups: groups with one name are one.

    Args:
        groups: id, name as title, characteristics as details.
        most: groups that may remain.
        about: what is grouped.
    """
    offered = _offer(groups, (), ())
    if not 1 <= most <= len(offered):
        raise ValueError(f"{most} of {len(offered)} groups cannot remain")
    return Question("group_merge", about, {"groups": tuple(groups), "most": most}, offered, most=most)


def group_assign(members: Sequence[Item], groups: Sequence[Item], *, about: str = "") -> Question:
    """The one group, of those given, that each item or user belongs to."""
    offered = _offer(members, (), ())
    choices = _offer(groups, (), ())
    if not choices:
        raise ValueError("there is no group to assign to")
    parts: dict[str, Part] = {"members": tuple(members), "groups": tuple(groups)}
    return Question("group_assign", about, parts, offered, choices=choices)


def rerank_point(
    profile: str,
    candidate: Item,
    *,
    liked: Sequence[Item] = (),
    disliked: Sequence[Item] = (),
    about: str = "",
) -> Question:
    """Whether one candidate suits a user."""
    offered = _offer([candidate], [*liked, *disliked], ())
    parts = _taste_parts(profile, liked, disliked) | {"candidate": candidate}
    return Question("rerank_point", about, parts, offered, _ids(liked), _ids(disliked))


def rerank_list(
    profile: str,
    candidates: Sequence[Item],
    *,
    liked: Sequence[Item] = (),
    disliked: Sequence[Item] = (),
    scores: Sequence[float] = (),
    about: str = "",
) -> Question:
    """All candidates from best to worst for a user; they are shown in the order given."""
    offered = _offer(candidates, [*liked, *disliked], scores)
    parts = _taste_parts(profile, liked, disliked) | {"candidates": tuple(candidates)}
    return Question("rerank_list", about, parts, offered, _ids(liked), _ids(disliked), tuple(scores))


def _taste_parts(profile: str, liked: Sequence[Item], disliked: Sequence[Item]) -> dict[str, Part]:
    return {"profile": profile, "liked": tuple(liked), "disliked": tuple(disliked)}


def _ids(items: Iterable[Item]) -> tuple[str, ...]:
    return tuple(item.id for item in items)


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
