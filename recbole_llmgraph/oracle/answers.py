"""Answers: what a model's text says once it is checked against what was offered."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from recbole_llmgraph.oracle.cost import Status, Usage
from recbole_llmgraph.oracle.parsing import RejectedError, as_id, first_json, plain, shown
from recbole_llmgraph.oracle.questions import Question, Task


@dataclass(frozen=True)
class Provenance:
    """Where an answer comes from.

    Attributes:
        label: the back-end as reports print it; a heuristic says that it is none of a language model.
        identity: model, revision and decoding.
        template: the template's name with its version.
        is_llm: whether a language model answered.
        cached: whether it was kept from an earlier time.
    """

    label: str
    identity: str
    template: str
    is_llm: bool
    cached: bool


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        parsed: checked plain data (see `questions`), the task's fallback, or None where the task has none.
        raw: the model's last text; empty when nothing came back.
        status: `ok`; `repaired` after one repair; `fallback` when no valid answer came; `missing` when the
            recorded answers hold none.
        reason: why the last text was rejected, or why there is none; empty for valid answers.
        provenance: who answered.
        usage: what the answer cost, a repair included, whenever it was asked.
    """

    parsed: Any
    raw: str
    status: Status
    reason: str
    provenance: Provenance
    usage: Usage

    @property
    def valid(self) -> bool:
        """Whether a model's own answer passed the check."""
        return self.status in ("ok", "repaired")


_MARKS = r"[\[\]\"'`*]*"
_NAMED = rf"{_MARKS}([A-Za-z0-9_.-]*[A-Za-z0-9_-]){_MARKS}"
_PAIR = re.compile(rf"(?<![\w.-]){_NAMED}\s*::\s*{_NAMED}(?![\w-])")


def check(question: Question, text: str) -> Any:
    """Plain data of an answer.

    Raises:
        RejectedError: when the text is not of the task's form, or names what was not offered.
    """
    return CHECKS[question.task](question, text)


def check_pair(question: Question, text: str) -> dict[str, str]:
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
    offered(question, [favourite, least])
    return {"favourite": favourite, "least": least}


def offered(question: Question, names: list[str]) -> list[str]:
    """The names themselves.

    Raises:
        RejectedError: when one was not offered, or is named twice.
    """
    allowed = set(question.offered)
    for name in names:
        if name not in allowed:
            raise RejectedError(f"{shown(name)} is not one of the ids that were offered")
    if len(set(names)) < len(names):
        raise RejectedError("it names an id twice")
    return names


CHECKS: dict[Task, Callable[[Question, str], Any]] = {"edge_pair": check_pair}
