"""The replay back-end: recorded answers of one model, read from a file; nothing is ever asked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.hashing import SHORT, hash_file
from recbole_llmgraph.oracle.backend import Call, Results, Silence, Take
from recbole_llmgraph.oracle.cost import Price
from recbole_llmgraph.oracle.records import Record, read_records
from recbole_llmgraph.oracle.template import Template


class ReplayBackend:
    """Answers of a file that `export` wrote.

    Args:
        path: JSON lines.
        strict: whether a question without a recorded answer is an error; else its answer is `missing`.

    Raises:
        UserError: when the file is no such file, or holds answers of several models.
    """

    is_llm = True
    keeps = False
    parallel = False
    price: Price | None = None

    def __init__(self, path: Path, *, strict: bool = True) -> None:
        self.path, self.strict = path, strict
        self._records = _by_prompt(path)
        first = next(iter(self._records.values()), None)
        model = first.model if first else "nothing"
        self.label = f"replay of {model}"
        self.identity = f"replay:{model}:{hash_file(path)[:SHORT]}"
        self.decoding: Mapping[str, Any] = first.decoding if first else {}

    def most_tokens(self, form: Template) -> int:
        """None: nothing is generated."""
        return 0

    def work(self, take: Take) -> Results:
        """Look up call after call.

        Raises:
            UserError: at the first one that was not recorded, when strict.
        """
        while (call := take()) is not None:
            if (record := self._records.get(call.prompt)) is not None:
                yield [(call, record.as_reply())]
            elif self.strict:
                raise UserError(self._gap(call))
            else:
                yield [(call, Silence("it was not recorded", missing=True))]

    def _gap(self, call: Call) -> str:
        versions = {f"{r.task}.v{r.version}" for r in self._records.values() if r.task == call.template.task}
        held = f"; what it holds is for {', '.join(sorted(versions))}" if versions else ""
        about = f" about {call.question.about}" if call.question.about else ""
        return (
            f"{self.path}: holds no answer to this {call.template.name} question{about}{held}. "
            "Record it with the model, or accept gaps with strict=false"
        )


def _by_prompt(path: Path) -> dict[str, Record]:
    """Records of one model by prompt."""
    found: dict[str, Record] = {}
    for record in read_records(path):
        known = found.setdefault(record.prompt, record)
        if known.model != next(iter(found.values())).model or known.model != record.model:
            models = f"{next(iter(found.values())).model} and {record.model}"
            raise UserError(f"{path}: answers of two models, {models}; export one of them")
    return found
