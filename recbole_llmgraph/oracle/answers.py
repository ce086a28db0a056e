"""Answers: checked data, and where they come from."""

from dataclasses import dataclass
from typing import Any

from recbole_llmgraph.oracle.cost import Status, Usage


@dataclass(frozen=True)
class Provenance:
    """Where an answer comes from.

    Attributes:
        label: the back-end as reports print it; a heuristic says that it is none of a language model.
        identity: what fixes the answers: model and revision.
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
