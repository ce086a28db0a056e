"""From a model's text to plain data: fences off, then the first whole JSON value of the wanted kind."""

import json
import re
from contextlib import suppress
from typing import Any

#: Characters of an answer that are read.
READ_LIMIT = 20_000
#: Opening brackets from which JSON is tried to be read; a hostile answer could hold thousands.
TRIES = 50
#: What models that reason aloud say before their answer.
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^\s*```[A-Za-z]*\s*$", re.MULTILINE)


class RejectedError(Exception):
    """An answer that cannot be used; the text says why, to the model that gave it."""


def plain(text: str) -> str:
    """The answer without thoughts, code fences and outer blanks.

    Raises:
        RejectedError: when nothing is left.
    """
    if _THOUGHT.match(text) is None and text.lstrip().startswith("<think>"):
        raise RejectedError("it ends before its thoughts do")
    bare = _FENCE.sub("", _THOUGHT.sub("", text)[:READ_LIMIT]).strip()
    if not bare:
        raise RejectedError("it is empty")
    return bare


def first_json(text: str, kind: type[dict[str, Any]] | type[list[Any]]) -> Any:
    """The first whole JSON object or array in a text.

    Raises:
        RejectedError: when there is none, or an object names a key twice.
    """
    bare, opening = plain(text), "{" if kind is dict else "["
    at = -1
    for _ in range(TRIES):
        if (at := bare.find(opening, at + 1)) < 0:
            break
        with suppress(ValueError, RecursionError):
            return _READER.raw_decode(bare, at)[0]
    raise RejectedError(f"it holds no whole JSON {'object' if kind is dict else 'array'}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Plain `json` would let the last of two equal keys win."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RejectedError("its JSON names a key twice")
    return found


def _no_constant(name: str) -> Any:
    raise RejectedError(f"{name} is not JSON")


_READER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def as_id(value: Any) -> str:
    """An id as a model writes it: text or a whole number, with or without brackets.

    Raises:
        RejectedError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RejectedError(f"{shown(value)} is no id")
    return str(value).strip().removeprefix("[").removesuffix("]").strip()


def shown(value: Any) -> str:
    """A value as an error quotes it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return repr(text if len(text) <= 40 else text[:39] + "…")
