"""What questions would cost, before any is asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from recbole_llmgraph.oracle.backend import Backend, Call, prompt_tokens
from recbole_llmgraph.oracle.cache import ReplyCache, call_key
from recbole_llmgraph.oracle.checks import check
from recbole_llmgraph.oracle.cost import money
from recbole_llmgraph.oracle.parsing import RejectedError
from recbole_llmgraph.oracle.questions import Question

#: Tokens that a repair adds to its question: a quoted answer, what is wrong with it, the form.
REPAIR_TOKENS = 450


@dataclass
class Estimate:
    """One row of a dry run; tokens are counted from bytes, on the high side.

    Attributes:
        task: the template's name.
        questions: questions that would be asked.
        kept: of these, how many the cache answers already.
        calls: calls that would be made.
        tokens_in: tokens of their prompts.
        tokens_out: tokens of ordinary answers.
        money: US dollars for these; None when no price is known.
        money_most: the same when every answer is as long as allowed and every question needs its repair.
    """

    task: str
    questions: int = 0
    kept: int = 0
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    money: float | None = None
    money_most: float | None = None


def estimate(questions: Sequence[Question], backend: Backend, cache: ReplyCache) -> list[Estimate]:
    """One row a template; asks nothing."""
    rows: dict[str, Estimate] = {}
    seen: set[str] = set()
    for number, question in enumerate(questions):
        first = Call.first(number, question)
        row = rows.setdefault(first.template.name, Estimate(first.template.name))
        row.questions += 1
        if not backend.keeps:
            continue
        call = _open(first, backend, cache)
        if call is None:
            row.kept += 1
        elif (key := call_key(call, backend)) not in seen:
            seen.add(key)
            _add(row, call, backend)
    return [rows[name] for name in sorted(rows)]


def _open(call: Call, backend: Backend, cache: ReplyCache) -> Call | None:
    """The call that the cache cannot answer; None when it answers all."""
    kept = cache.get(call_key(call, backend))
    if kept is None:
        return call
    try:
        check(call.question, kept.text)
    except RejectedError as error:
        if call.repair is None:
            return _open(call.again(kept.text, str(error), kept.usage), backend, cache)
    return None


def _add(row: Estimate, call: Call, backend: Backend) -> None:
    """Count one call that would be made."""
    tokens, form = prompt_tokens(call), call.template
    row.calls += 1
    row.tokens_in += tokens
    row.tokens_out += form.typical_tokens
    if backend.price is not None:
        most = backend.most_tokens(form)
        repaired = 0 if call.repair else backend.price.of(tokens + REPAIR_TOKENS, most)
        row.money = (row.money or 0.0) + backend.price.of(tokens, form.typical_tokens)
        row.money_most = (row.money_most or 0.0) + backend.price.of(tokens, most) + repaired


def estimate_table(rows: Sequence[Estimate]) -> str:
    """The rows as a Markdown table."""
    head = ["task", "questions", "kept", "calls", "tokens in", "tokens out", "US$", "US$ at most"]
    lines = [
        [r.task, r.questions, r.kept, r.calls, r.tokens_in, r.tokens_out, money(r.money), money(r.money_most)]
        for r in rows
    ]
    return tabulate(lines, head, tablefmt="github", disable_numparse=True)
