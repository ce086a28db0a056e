"""Templates: files that say how a task is asked, numbered so that each answer belongs to one wording."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template as Text
from typing import Any, Literal

from pydantic import PositiveInt

from recbole_llmgraph.base.files import read_yaml
from recbole_llmgraph.base.settings import Settings
from recbole_llmgraph.oracle.questions import Item, Part, Question, Task
from recbole_llmgraph.oracle.text import ITEM_LIMIT, PROFILE_LIMIT, check_id, clean, quoted

FOLDER = Path(__file__).parent / "templates"
#: Characters of a rejected answer that its repair quotes.
QUOTE_LIMIT = 500


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


class Template(Settings):
    """How one task is asked; `templates/<task>.v<version>.yaml`."""

    task: Task
    version: PositiveInt
    """Rises with every change of the file."""
    max_tokens: PositiveInt
    """Tokens that an answer may have."""
    typical_tokens: PositiveInt
    """Tokens of an ordinary answer, for estimates."""
    system: str
    user: str
    """The request; `$name` stands for a part of the question, `$form` for the form."""
    form: str
    """What an answer must look like; only `$most` may stand in it."""
    answer_schema: dict[str, Any] | None = None
    """The same as a JSON schema, for endpoints that can hold an answer to one."""

    @property
    def name(self) -> str:
        """`edge_pair.v1`."""
        return f"{self.task}.v{self.version}"

    def render(self, question: Question) -> tuple[Message, ...]:
        """The conversation that asks the question; nothing of the dataset stands outside quotation marks."""
        parts = {name: _shown(part) for name, part in question.parts.items()}
        request = Text(self.user).substitute(parts, form=self._form(question))
        return Message("system", self.system), Message("user", request)

    def repair(
        self, question: Question, asked: tuple[Message, ...], answer: str, reason: str
    ) -> tuple[Message, ...]:
        """The conversation that goes on after a rejected answer: once more, and what was wrong."""
        told = f"Your answer cannot be used: {clean(reason, QUOTE_LIMIT)}. The request stands."
        said = Message("assistant", clean(answer, QUOTE_LIMIT) or "(nothing)")
        return (*asked, said, Message("user", f"{told}\n{self._form(question)}"))

    def _form(self, question: Question) -> str:
        return Text(self.form).substitute(most=question.most)


@cache
def template(task: Task) -> Template:
    """The newest template of a task."""
    newest = max(FOLDER.glob(f"{task}.v*.yaml"), key=lambda path: int(path.stem.rpartition(".v")[2]))
    return Template.read(read_yaml(newest), f"template {newest.stem}")


def item_line(item: Item) -> str:
    """`[id] "title"; "details"; rating 4`."""
    fields = [f"[{check_id(item.id)}] {quoted(item.title)}"]
    if item.details:
        fields.append(quoted(", ".join(item.details), ITEM_LIMIT))
    if item.rating is not None:
        fields.append(f"rating {item.rating:g}")
    return "; ".join(fields)


def _shown(part: Part) -> str:
    """A part of a question as the prompt shows it."""
    if isinstance(part, int):
        return str(part)
    if isinstance(part, str):
        return quoted(part, PROFILE_LIMIT)
    if isinstance(part, Item):
        return item_line(part)
    return "\n".join(map(item_line, part)) or "(none)"
