"""What stands between the oracle and a language model: calls go in, replies come out as they arrive."""

import hashlib
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from recbole_llmgraph.base.hashing import canonical
from recbole_llmgraph.oracle.cost import Price, Usage
from recbole_llmgraph.oracle.questions import Question, Task
from recbole_llmgraph.oracle.template import Message, Template, template

#: UTF-8 bytes that make a token, for estimates; lists of ids need more tokens than prose (about 4).
BYTES_PER_TOKEN = 3.0
#: Tokens around each message of a conversation.
TOKENS_PER_MESSAGE = 8
#: How the reason of a silence begins when requests failed.
NO_ANSWER = "no answer"


@dataclass(frozen=True)
class Call:
    """One conversation to be continued by one reply.

    Attributes:
        number: the question's place among those that were asked together.
        question: what is asked.
        template: how.
        repair: the whole conversation of a second attempt; None at the first.
        spent: usage of the first attempt.
    """

    number: int
    question: Question
    template: Template
    repair: tuple[Message, ...] | None = None
    spent: Usage = field(default=Usage())

    @classmethod
    def first(cls, number: int, question: Question) -> "Call":
        """The first attempt at a question."""
        return cls(number, question, template(question.task))

    def again(self, answer: str, reason: str, spent: Usage) -> "Call":
        """The second attempt, which quotes the rejected answer and says what is wrong with it."""
        messages = self.template.repair(self.question, self.messages, answer, reason)
        return replace(self, repair=messages, spent=self.spent + spent)

    @cached_property
    def messages(self) -> tuple[Message, ...]:
        """The conversation; rendered when it is needed, since there may be a hundred thousand calls."""
        return self.repair or self.template.render(self.question)

    @cached_property
    def prompt(self) -> str:
        """SHA-256 of template, version and rendered conversation; free of any model."""
        return prompt_hash(self.template.task, self.template.version, self.messages)


def digest(data: Any) -> str:
    """Full SHA-256 of plain data."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()


def prompt_hash(task: Task, version: int, messages: Sequence[Message]) -> str:
    """SHA-256 of template, version and rendered conversation."""
    return digest([task, version, [[message.role, message.text] for message in messages]])


def prompt_tokens(call: Call) -> int:
    """Tokens of a conversation, estimated on the high side."""
    return sum(TOKENS_PER_MESSAGE + text_tokens(message.text) for message in call.messages)


def text_tokens(text: str) -> int:
    """Tokens of a text, estimated on the high side."""
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        text: the model's words.
        usage: what they cost when they were asked.
        recorded: whether that was at another time.
    """

    text: str
    usage: Usage
    recorded: bool = False


@dataclass(frozen=True)
class Silence:
    """Nothing came back, all retries included; never kept, so that the next run asks again.

    Attributes:
        reason: why, in words for the user.
        usage: what was spent on it.
        missing: whether a recorded answer was looked for and is not there.
    """

    reason: str
    usage: Usage = field(default=Usage())
    missing: bool = False


#: The next call to make, or None when there is none for now.
Take = Callable[[], Call | None]
#: A call with what came of it.
Result = tuple[Call, Reply | Silence]
#: Results as they arrive; those that arrived together come together.
Results = Generator[list[Result], None, None]


class Backend(Protocol):
    """A source of replies.

    Attributes:
        label: what reports print.
        identity: model and revision: what fixes the replies together with `decoding`.
        decoding: plain data: temperature, seed, …
        is_llm: whether a language model answers.
        keeps: whether replies are worth keeping in the cache.
        parallel: whether calls are under way while a reply is judged; a stop waits for these.
        price: of its tokens; None when unknown or free.
    """

    label: str
    identity: str
    decoding: Mapping[str, Any]
    is_llm: bool
    keeps: bool
    parallel: bool
    price: Price | None

    def most_tokens(self, form: Template) -> int:
        """Tokens that a reply may have."""

    def work(self, take: Take) -> Results:
        """Yield calls with what came of them, in any order, until `take` has none and none is under way.

        `take` may have new calls after each yield.
        """
