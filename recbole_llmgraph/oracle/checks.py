"""What a model's text says, task by task, once it is held against what was offered."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from recbole_llmgraph.oracle.parsing import RejectedError, as_id, first_json, plain, shown
from recbole_llmgraph.oracle.questions import Question, Task
from recbole_llmgraph.oracle.text import ITEM_LIMIT, PROFILE_LIMIT, clean

#: Words of a summary.
WORDS = 100
#: Least share of probability on yes and no together for a pointwise answer read from probabilities.
LEAST_MASS = 0.5
#: Characteristics that a group keeps.
CHARACTERISTICS = 10

# Lengths are bounded, or a hostile answer could keep the expressions busy for minutes.
_NAME = r"[A-Za-z0-9_.-]{0,63}[A-Za-z0-9_-]"
_MARKS = r"[\[\]\"'`*]{0,4}"
_NAMED = rf"{_MARKS}({_NAME}){_MARKS}"
_PAIR = re.compile(rf"(?<![\w.-]){_NAMED}\s{{0,4}}::\s{{0,4}}{_NAMED}(?![\w-])")
_YES_NO = re.compile(r"\W*(yes|no)\W*", re.IGNORECASE)


def check(question: Question, text: str) -> Any:
    """Plain data of an answer.

    Raises:
        RejectedError: when the text is not of the task's form, or names what was not offered.
    """
    return CHECKS[question.task](question, text)


def edge_pair(question: Question, text: str) -> dict[str, str]:
    """`favourite::least`, or the same as a JSON object."""
    bare = plain(text)
    pairs = _PAIR.findall(bare)
    if "::" not in bare and "{" in bare:
        data = first_json(bare, dict)
        pairs = [(as_id(data.get("favourite")), as_id(data.get("least")))]
    elif bare.count("::") != len(pairs):
        raise RejectedError("'::' stands between something else than two ids")
    found = set(pairs) - {("favourite", "least")}
    if len(found) != 1:
        raise RejectedError("it holds several pairs" if found else "it holds no line favourite::least")
    ((favourite, least),) = found
    _offered([favourite, least], question.offered)
    return {"favourite": favourite, "least": least}


def profile(question: Question, text: str) -> dict[str, str]:
    """A summary of at most a hundred words, and the reasoning behind it."""
    data = first_json(text, dict)
    summary = _text(data, "summarization", PROFILE_LIMIT)
    if (words := len(summary.split())) > WORDS:
        raise RejectedError(f"its summarization has {words} words, at most {WORDS} are allowed")
    return {"summarization": summary, "reasoning": _text(data, "reasoning", PROFILE_LIMIT)}


def chosen(question: Question, text: str) -> dict[str, Any]:
    """Some of the candidates; fewer than allowed are taken as they are, never filled up."""
    data = first_json(text, dict)
    names = _offered(_list(data, "items"), question.offered)
    if not 1 <= len(names) <= question.most:
        raise RejectedError(f"its items are {len(names)}, from 1 to {question.most} are allowed")
    reasoning = clean(str(data.get("reasoning", "")), PROFILE_LIMIT)
    return {"items": names, "reasoning": reasoning}


def groups(question: Question, text: str) -> dict[str, Any]:
    """Proposed groups; a member may stand in several, or in none."""
    found = first_json(text, list)
    if not 1 <= len(found) <= question.most or not all(isinstance(group, dict) for group in found):
        raise RejectedError(f"it is no list of 1 to {question.most} groups")
    result = [_group(group, question) for group in found]
    if len({group["name"] for group in result}) < len(result):
        raise RejectedError("two of its groups have one name")
    return {"groups": result}


def _group(data: dict[str, Any], question: Question) -> dict[str, Any]:
    traits = [clean(str(trait)) for trait in _list(data, "characteristics")[:CHARACTERISTICS]]
    return {
        "name": _text(data, "name", ITEM_LIMIT),
        "characteristics": [trait for trait in traits if trait],
        "reasoning": clean(str(data.get("reasoning", "")), PROFILE_LIMIT),
        "members": _offered(_list(data, "members"), question.offered),
    }


def merged(question: Question, text: str) -> dict[str, str]:
    """A name for every group; not more names than groups may remain."""
    data = first_json(text, dict)
    names = {as_id(key): _text(data, key, ITEM_LIMIT) for key in data}
    _complete(names, question.offered)
    if (left := len(set(names.values()))) > question.most:
        raise RejectedError(f"it leaves {left} groups, at most {question.most} are allowed")
    return names


def assigned(question: Question, text: str) -> dict[str, str]:
    """A group for every member."""
    data = first_json(text, dict)
    found = {as_id(key): as_id(value) for key, value in data.items()}
    _complete(found, question.offered)
    for group in found.values():
        if group not in question.choices:
            raise RejectedError(f"{shown(group)} is not one of the groups that were offered")
    return found


def yes_or_no(question: Question, text: str) -> dict[str, Any]:
    """`yes` or `no`; or both with their probabilities, as the local back-end reads them."""
    bare = plain(text)
    if bare.startswith("{"):
        data = first_json(bare, dict)
        said, share, mass = data.get("answer"), data.get("p_yes"), data.get("mass", 1.0)
        if said not in ("yes", "no") or not all(_is_share(value) for value in (share, mass)):
            raise RejectedError("it is neither yes nor no")
        if mass < LEAST_MASS:
            raise RejectedError(f"yes and no together have a probability of {mass:.3f} only")
        return {"yes": said == "yes", "score": float(share)}
    if (match := _YES_NO.fullmatch(bare)) is None:
        raise RejectedError("it is neither yes nor no")
    yes = match[1].lower() == "yes"
    return {"yes": yes, "score": float(yes)}


def order(question: Question, text: str) -> dict[str, list[str]]:
    """Every candidate once, best first: a JSON array, or ids with commas, `>` or line breaks between."""
    bare = plain(text)
    try:
        names = [as_id(value) for value in first_json(bare, list)]
    except RejectedError:
        names = []
    if len(names) < 2:
        names = re.findall(_NAME, bare)
    _offered(names, question.offered)
    if missing := len(question.offered) - len(names):
        raise RejectedError(f"it leaves out {missing} of {len(question.offered)} candidates")
    return {"order": names}


CHECKS: dict[Task, Callable[[Question, str], Any]] = {
    "edge_pair": edge_pair,
    "item_profile": profile,
    "user_profile": profile,
    "pos_gen": chosen,
    "neg_gen": chosen,
    "group_propose": groups,
    "group_merge": merged,
    "group_assign": assigned,
    "rerank_point": yes_or_no,
    "rerank_list": order,
}


def _offered(values: Iterable[Any], allowed: Iterable[str]) -> list[str]:
    """Values as ids, each of them offered, none of them twice."""
    names, known = [as_id(value) for value in values], set(allowed)
    for name in names:
        if name not in known:
            raise RejectedError(f"{shown(name)} is not one of the ids that were offered")
    if len(set(names)) < len(names):
        raise RejectedError("it names an id twice")
    return names


def _complete(found: dict[str, Any], wanted: tuple[str, ...]) -> None:
    """Refuse keys that were not offered, and offered ones that are left out."""
    _offered(found, wanted)
    if missing := [name for name in wanted if name not in found]:
        raise RejectedError(f"it leaves out {missing[0]} and {len(missing) - 1} more")


def _text(data: dict[str, Any], name: str, limit: int) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not (text := clean(value, limit)):
        raise RejectedError(f"its {shown(name)} is no text")
    return text


def _list(data: dict[str, Any], name: str) -> list[Any]:
    value = data.get(name)
    if not isinstance(value, list):
        raise RejectedError(f"its {shown(name)} is no list")
    return value


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
