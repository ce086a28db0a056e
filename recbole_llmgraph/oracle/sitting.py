"""One round of questions: cache first, then the back-end, one repair, the fallback; with its stops."""

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import repeat
from typing import Any

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.oracle.answers import Answer, Provenance
from recbole_llmgraph.oracle.backend import NO_ANSWER, Backend, Call, Reply, Result, Silence
from recbole_llmgraph.oracle.budget import Budget
from recbole_llmgraph.oracle.cache import ReplyCache, call_key
from recbole_llmgraph.oracle.checks import check
from recbole_llmgraph.oracle.claims import Claims
from recbole_llmgraph.oracle.cost import Status, TaskCost, Usage
from recbole_llmgraph.oracle.fallback import fallback
from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.oracle.parsing import RejectedError
from recbole_llmgraph.oracle.questions import Question

#: Answers after which a model is judged hopeless when fewer than half are valid.
PROBE = 20
#: Seconds between looks at what another process asks, and until it is asked here too: a stopped process keeps
#: its claims.
LOOK, LOST = 0.05, 900.0
#: Looks in a row after which the user is told what there is to wait for.
_TELL_AFTER = 100


class InvalidAnswersError(UserError):
    """Too few valid answers; `valid_rate` is their share among those that were asked."""

    def __init__(self, text: str, valid_rate: float) -> None:
        super().__init__(text)
        self.valid_rate = valid_rate


class Sitting:
    """The state of one `Oracle.ask`.

    Args:
        questions: to be answered, each once.
        backend: who answers.
        cache: replies that are there already, and where new ones go.
        options: limits.
        counted: prompts whose cost is counted already; equal questions share one reply. Grows.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        backend: Backend,
        cache: ReplyCache,
        options: OracleOptions,
        counted: set[str],
    ) -> None:
        self.backend, self.cache, self.options = backend, cache, options
        self.costs: dict[str, TaskCost] = {}
        self._budget = Budget(options.max_cost, backend, cache)
        self._asked = Counter(question.task for question in questions)
        self._answers: list[Answer | None] = [None] * len(questions)
        self._waiting = deque(Call.first(number, question) for number, question in enumerate(questions))
        self._under_way: dict[str, list[Call]] = {}
        """Keys of calls that were handed out, with equal calls that wait for the same reply."""
        self._elsewhere: deque[Call] = deque()
        """Calls that another process makes just now; their replies come by the cache."""
        self._claims = Claims(cache.path.with_name(f"{cache.path.name}.claims"))
        self._looks = 0
        """At these in a row, since anything was settled."""
        self._counted = counted
        self._settled = 0
        self._stop: UserError | None = None

    def settle(self) -> Iterator[None]:
        """Answer everything; yields once an answer.

        Raises:
            UserError: what stopped it, after everything under way has come back and is kept.
        """
        told = 0
        with closing(self._claims), closing(self.backend.work(self._take)) as results:
            for arrived in results:
                self._receive(arrived)
                yield from repeat(None, self._settled - told)
                told = self._settled
                if self._stop is not None and not self.backend.parallel:
                    break
        yield from repeat(None, self._settled - told)
        if self._stop is not None:
            raise self._stop

    def answers(self) -> list[Answer]:
        """All answers, in the order of the questions; call when settled."""
        return [answer for answer in self._answers if answer is not None]

    def _take(self) -> Call | None:
        """The next call that must be made; what the cache holds is settled on the way."""
        while self._waiting or self._look_elsewhere():
            call = self._waiting.popleft()
            if not self.backend.keeps:
                return call
            key = call_key(call, self.backend)
            if (kept := self.cache.get(key)) is not None:
                self._judge(call, kept, cached=True)
            elif key in self._under_way:
                self._under_way[key].append(call)
            elif not self._claim(key):
                self._elsewhere.append(call)
            elif (kept := self.cache.get(key)) is not None:  # by another process, since the last look
                self._claims.release(key)
                self._judge(call, kept, cached=True)
            elif self._budget.reserve(key, call):
                self._under_way[key] = []
                return call
            else:
                self._claims.release(key)
                self._waiting.appendleft(call)
                if not self._under_way:  # else what comes back may cost less than was set aside
                    self._halt(self._budget.spent(self._settled, len(self._answers)))
                return None
        return None

    def _claim(self, key: str) -> bool:
        """Whether to ask here: nobody does, or who does has kept everybody waiting so long that it hangs."""
        return self._claims.take(key) or self._looks * LOOK > LOST

    def _look_elsewhere(self) -> bool:
        """With nothing else to do, wait a moment, then look again at what other processes ask."""
        if self._under_way or not self._elsewhere:
            return False
        if self._looks == _TELL_AFTER:
            asked = len(self._elsewhere)
            say(f"{self.backend.label}: another process asks {asked} of these questions; waiting")
        time.sleep(LOOK)
        self._looks += 1
        self._waiting, self._elsewhere = self._elsewhere, deque()
        return True

    def _receive(self, arrived: Sequence[Result]) -> None:
        """Keep what came back, all of it in one go, then judge it, for these calls and for equal ones."""
        if not self.backend.keeps:
            for call, result in arrived:
                self._judge(call, result, cached=isinstance(result, Reply) and result.recorded)
            return
        replies = [(call, self._priced(result)) for call, result in arrived if isinstance(result, Reply)]
        counting = self.cache.put(self.backend, replies)
        kept = {call.number: reply for (call, _), reply in zip(replies, counting, strict=True)}
        for call, result in arrived:
            key = call_key(call, self.backend)
            self._budget.release(key)
            self._claims.release(key)
            self._judge(call, kept.get(call.number, result), cached=False)
            for equal in self._under_way.pop(key):
                self._judge(equal, kept.get(call.number, result), cached=True)

    def _priced(self, reply: Reply) -> Reply:
        if self.backend.price is None:
            return reply
        money = self.backend.price.of(reply.usage.tokens_in, reply.usage.tokens_out)
        return replace(reply, usage=replace(reply.usage, money=money))

    def _judge(self, call: Call, result: Reply | Silence, *, cached: bool) -> None:
        """Settle the question, or ask for a repair."""
        if not cached:
            self._count(call, TaskCost(call.template.name, now=result.usage))
        if result.usage != Usage() and call.prompt not in self._counted:
            self._counted.add(call.prompt)
            self._count(call, TaskCost(call.template.name, answers=result.usage))
        if isinstance(result, Silence):
            status: Status = "missing" if result.missing else "fallback"
            self._settle(call, fallback(call.question), "", status, result, cached)
            return
        try:
            parsed = check(call.question, result.text)
        except RejectedError as error:
            if call.repair is None and self._stop is None:
                # in front, so that a model that cannot answer is known after few questions
                self._waiting.appendleft(call.again(result.text, str(error), result.usage))
            else:
                self._settle(call, fallback(call.question), str(error), "fallback", result, cached)
            return
        self._settle(call, parsed, "", "repaired" if call.repair else "ok", result, cached)

    def _settle(
        self, call: Call, parsed: Any, reason: str, status: Status, result: Reply | Silence, cached: bool
    ) -> None:
        backend = self.backend
        source = Provenance(backend.label, backend.identity, call.template.name, backend.is_llm, cached)
        raw = result.text if isinstance(result, Reply) else ""
        why = result.reason if isinstance(result, Silence) else reason
        answer = Answer(parsed, raw, status, why, source, call.spent + result.usage)
        self._answers[call.number] = answer
        self._settled += 1
        self._looks = 0
        self._count(call, TaskCost.one(call.template.name, status))
        if not answer.valid:
            self._check_rate(call, why)

    def _count(self, call: Call, row: TaskCost) -> None:
        name = call.template.name
        self.costs[name] = self.costs.get(name, TaskCost(name)) + row

    def _check_rate(self, call: Call, reason: str) -> None:
        """Stop as soon as the wanted share of valid answers is out of reach, or the model is hopeless."""
        row, wanted = self.costs[call.template.name], self.options.min_valid
        invalid = row.questions - row.ok - row.repaired
        asked = self._asked[call.question.task]
        out_of_reach = asked - invalid < wanted * asked - 1e-9
        hopeless = row.questions >= PROBE and row.valid_rate < wanted / 2
        if self._stop is None and (out_of_reach or hopeless):
            silent = reason.startswith(NO_ANSWER)
            mend = "Check the endpoint and type the same again" if silent else "Choose another model"
            text = (
                f"{self.backend.label}: {row.ok + row.repaired} of {row.questions} answers to "
                f"{call.template.name} are valid ({row.valid_rate:.1%}), {wanted:.0%} are needed; "
                f"the last fault: {reason}. {mend}, or accept fallbacks with min_valid=0"
            )
            self._halt(InvalidAnswersError(text, row.valid_rate))

    def _halt(self, why: UserError) -> None:
        """Ask nothing more; what is under way still comes back and is kept."""
        self._stop = why
        self._waiting.clear()
        self._elsewhere.clear()
