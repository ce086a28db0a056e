"""Errors that a user can mend.

Commands print a `UserError` as one line and exit with 2; every other exception is a
fault of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What is wrong, what is allowed and what to type next, in one line whatever it quotes."""

    def __init__(self, text: str) -> None:
        """Args: the line; line breaks in what it quotes become blanks."""
        super().__init__(" ".join(text.split()))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or an empty string when nothing is near."""
    spelled = {str(k).lower(): str(k) for k in known}
    near = difflib.get_close_matches(name.lower(), list(spelled), n=1, cutoff=0.5)
    return f" Did you mean '{spelled[near[0]]}'?" if near else ""


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> UserError:
    """The one wording for a name that nobody knows."""
    known = sorted(known)
    shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    tail = hint or f"Known: {shown}."
    return UserError(f"no {kind} '{name}'.{did_you_mean(name, known)} {tail}")
