"""A kept reply as data: a row of the cache, a line of a published file."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError, model_validator

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import new_file
from recbole_llmgraph.base.hashing import canonical
from recbole_llmgraph.base.settings import Settings
from recbole_llmgraph.oracle.backend import Reply, digest, prompt_hash
from recbole_llmgraph.oracle.cost import Usage
from recbole_llmgraph.oracle.questions import Task
from recbole_llmgraph.oracle.template import Message


class Record(Settings):
    """One reply, and what was asked of whom."""

    prompt: str
    """Hash of template, version and conversation."""
    task: Task
    version: PositiveInt
    model: str
    """Back-end, model and revision."""
    decoding: dict[str, Any]
    messages: list[tuple[Literal["system", "user", "assistant"], str]] | None = None
    """The conversation; left out where the text of a dataset may not be passed on."""
    reply: str
    retries: NonNegativeInt = 0
    tokens_in: NonNegativeInt = 0
    tokens_out: NonNegativeInt = 0
    seconds: NonNegativeFloat = 0.0
    money: NonNegativeFloat | None = None
    asked: str = ""
    """ISO 8601, UTC."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse a conversation that is not the one that was asked."""
        if self.messages is not None:
            said = tuple(Message(role, text) for role, text in self.messages)
            if prompt_hash(self.task, self.version, said) != self.prompt:
                raise ValueError("the conversation does not match its hash")
        return self

    @property
    def key(self) -> str:
        """What decides a reply: template, version, conversation, model, decoding."""
        return digest([self.prompt, self.model, self.decoding])

    def as_reply(self) -> Reply:
        """The reply with what it cost when it was asked."""
        used = Usage(1, self.retries, self.tokens_in, self.tokens_out, self.seconds, self.money)
        return Reply(self.reply, used, recorded=True)


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write JSON lines, whole or not at all; their number."""
    count = 0
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for record in records:
            stream.write(canonical(record.model_dump(mode="json", exclude_none=True)) + "\n")
            count += 1
    return count


def read_records(path: Path) -> Iterator[Record]:
    """Read JSON lines.

    Raises:
        UserError: with file and line, when there is no such file or a line is no record.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield _read(line, f"{path}:{number}")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name a file of recorded answers") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: no UTF-8 text; name a file of recorded answers") from None


def _read(line: str, where: str) -> Record:
    try:
        return Record(**json.loads(line))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "record"
        raise UserError(f"{where}: no recorded answer ({name}: {first['msg']})") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: no recorded answer ({error})") from None
