"""What answers cost: calls, tokens, seconds, money; by task, estimated beforehand and counted afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from tabulate import tabulate

#: How a question ended: `Answer.status`.
Status = Literal["ok", "repaired", "fallback", "missing"]


@dataclass(frozen=True)
class Usage:
    """Cost of one answer or of many.

    Attributes:
        calls: replies received.
        retries: requests that failed and were sent again.
        tokens_in: tokens of the prompts, as the back-end counts them.
        tokens_out: tokens of the replies.
        seconds: from sending to receiving, added up over calls, so that calls side by side count each.
        money: US dollars; None when no price is known.
    """

    calls: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    money: float | None = None

    def __add__(self, other: "Usage") -> "Usage":
        """Sum of both; money is None only when neither has any."""
        paid = [part.money for part in (self, other) if part.money is not None]
        counts = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)[:-1]}
        return Usage(**counts, money=sum(paid) if paid else None)


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens."""

    million_in: float
    million_out: float

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """What so many tokens cost."""
        return (tokens_in * self.million_in + tokens_out * self.million_out) / 1e6


@dataclass(frozen=True)
class TaskCost:
    """One row of the cost table.

    Attributes:
        task: the template's name, e.g. `edge_pair.v1`.
        questions: questions answered.
        ok: answers that passed their check at once.
        repaired: answers that passed after one repair.
        fallback: questions that the task's fallback answered.
        missing: questions without a recorded answer.
        answers: what the answers cost when they were asked, now or in an earlier run.
        now: the part of it that this process spent.
    """

    task: str
    questions: int = 0
    ok: int = 0
    repaired: int = 0
    fallback: int = 0
    missing: int = 0
    answers: Usage = Usage()
    now: Usage = Usage()

    @classmethod
    def one(cls, task: str, status: Status) -> Self:
        """The row of one answer, without its cost."""
        ok, repaired, fallback, missing = (int(status == end) for end in get_args(Status))
        return cls(task, 1, ok, repaired, fallback, missing)

    def __add__(self, other: "TaskCost") -> Self:
        """Sum of two rows of one task."""
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)[1:]}
        return type(self)(self.task, **sums)

    @property
    def valid_rate(self) -> float:
        """Share of questions with a valid answer; 1 when nothing was asked."""
        return (self.ok + self.repaired) / self.questions if self.questions else 1.0


def by_task(rows: Sequence[TaskCost]) -> dict[str, dict[str, Any]]:
    """The rows as plain data, as summaries keep them and `spent` reads them."""
    return {row.task: asdict(row) for row in rows}


def spent(costs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Tokens and money of all answers, as a run's cost names them.

    Args:
        costs: rows of `TaskCost` as plain data, by task.
    """
    used = [row["answers"] for row in costs.values()]
    paid = [row["money"] for row in used if row["money"] is not None]
    sums = {name: sum(row[name] for row in used) for name in ("tokens_in", "tokens_out")}
    return {**sums, "money": sum(paid) if paid else None} if used else {}


def together(*parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Costs of parts of one run by task, as `spent` reads them.

    Parts that ask the same task ask it of the same items and users (profiles above all), and a reply that is
    there is not paid again: of a task that several name, the one with most questions stands.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for part in parts:
        for task, row in part.items():
            if task not in found or row["questions"] > found[task]["questions"]:
                found[task] = row
    return found


def cost_table(rows: Sequence[TaskCost]) -> str:
    """The rows as a Markdown table."""
    head = [
        "task", "questions", "ok", "repaired", "fallback", "missing", "valid", "calls", "calls now",
        "tokens in", "tokens out", "call seconds", "US$", "US$ now",
    ]  # fmt: skip
    lines = [
        [
            r.task, r.questions, r.ok, r.repaired, r.fallback, r.missing, f"{r.valid_rate:.1%}",
            r.answers.calls, r.now.calls, r.answers.tokens_in, r.answers.tokens_out,
            f"{r.answers.seconds:.1f}", money(r.answers.money), money(r.now.money),
        ]
        for r in rows
    ]  # fmt: skip
    return tabulate(lines, head, tablefmt="github", disable_numparse=True)


def usage_table(rows: Mapping[tuple[str, str], Usage]) -> str:
    """Usage by model and template as a Markdown table."""
    head = ["model", "task", "replies", "retries", "tokens in", "tokens out", "call seconds", "US$"]
    lines = [
        [*name, u.calls, u.retries, u.tokens_in, u.tokens_out, f"{u.seconds:.1f}", money(u.money)]
        for name, u in sorted(rows.items())
    ]
    return tabulate(lines, head, tablefmt="github", disable_numparse=True)


def money(amount: float | None) -> str:
    """`1.2345`, or a dash when it is not known."""
    return "–" if amount is None else f"{amount:.4f}"
