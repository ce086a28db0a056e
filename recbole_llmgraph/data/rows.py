"""Bad rows and clean words: what may stand in an atomic file, and what happens to what may not."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from recbole_llmgraph.base.errors import UserError

Policy = Literal["error", "skip"]
#: Rows that pandas, and so RecBole, reads as "missing", and RecBole's own padding token.
RESERVED = frozenset(
    ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"]
    + ["<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "[PAD]"]
)
#: Bad rows kept word for word in the manifest; all of them are counted.
SHOWN = 20
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]+")
_UNFIT = re.compile(r"[\s\x00-\x1f\x7f-\x9f\"\u2028\u2029\ufeff\ud800-\udfff]")
_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|\w+);")
_SURROGATE = re.compile("[\ud800-\udfff]")


class BadRows:
    """Rows that cannot be used: the first one ends the run, or all are left out and counted.

    Args:
        policy: `error` (default of every command) or `skip`.
    """

    def __init__(self, policy: Policy = "error") -> None:
        if policy not in ("error", "skip"):
            raise UserError(f"on-bad-rows '{policy}' is unknown. Allowed: error, skip.")
        self.policy = policy
        self.count = 0
        self.first: list[dict[str, str | int]] = []

    def add(self, where: object, line: int, reason: str) -> None:
        """Report one row.

        Raises:
            UserError: when the policy is `error`.
        """
        if self.policy == "error":
            raise UserError(
                f"{where}:{line}: {reason}. Mend this line, or leave bad rows out: --on-bad-rows skip"
            )
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append({"file": Path(str(where)).name, "line": line, "reason": reason})


def one_line(text: str) -> str:
    """The text with every run of white space, control characters and lone surrogates as one blank."""
    return _BLANK.sub(" ", _SURROGATE.sub(" ", text)).strip()


def clean(text: str) -> str:
    """`one_line` with HTML entities (`&amp;`, `&#39;`) read as the characters they stand for."""
    return one_line(_ENTITY.sub(lambda found: html.unescape(found[0]), text))


def atomic_text(text: str) -> str:
    """`one_line` without `"`, which pandas takes for the start of a quoted field."""
    return one_line(text).replace('"', "'")


def time_fault(text: str) -> str | None:
    """Why a text is no Unix time; None when it is one."""
    try:
        value = float(text)
    except ValueError:
        return f"the time {text!r} is no number"
    if not 0 <= value < float("inf"):
        return f"the time {text!r} is no number of seconds from 1970 on"
    return None


def token_fault(token: str) -> str | None:
    """Why a text cannot be an id in an atomic file; None when it can."""
    if token in RESERVED:
        return f"{token!r} cannot be an id (it reads as a missing value)"
    if _UNFIT.search(token):
        return f"the id {token!r} holds white space, a control character or a quote"
    return None


def token_check() -> Callable[[str], str | None]:
    """`token_fault` that looks at every id once."""
    fine: set[str] = set()

    def check(token: str) -> str | None:
        if token in fine:
            return None
        fault = token_fault(token)
        if fault is None:
            fine.add(token)
        return fault

    return check
