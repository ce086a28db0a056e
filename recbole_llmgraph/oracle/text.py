"""Text of a dataset inside a prompt: data in quotation marks on one line, whatever it says.

A title cannot end its line, close its quotation mark, fake an `[id]` or spell a chat model's control token.
"""

import json
import re
import unicodedata
from functools import lru_cache

#: Characters kept of an item's title, and of its details together.
ITEM_LIMIT = 300
#: Characters kept of a profile: a hundred words.
PROFILE_LIMIT = 800
#: What an id in a prompt may look like; it must survive being copied by a language model.
ID = re.compile(r"[A-Za-z0-9_.-]{0,63}[A-Za-z0-9_-]")
#: Characters that could open an `[id]`, a control token (`<|im_end|>`, `</s>`) or a code fence.
_HARMLESS = str.maketrans({"[": "(", "]": ")", "<": "‹", ">": "›", "`": "'", "|": "/"})
#: Unicode categories without a visible sign: control, format (zero width, direction), surrogates, private
#: use, line and paragraph separators.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def clean(text: str, limit: int = ITEM_LIMIT) -> str:
    """One line of visible characters, at most `limit` of them; a cut is marked by `…`."""
    visible = text[: 8 * limit]
    if not (visible.isascii() and visible.isprintable()):
        # Compatibility forms first: a full-width bracket is a bracket to many tokenizers.
        # The mark of a cut stays one sign, or text that was cut once would be cut again.
        folded = "…".join(unicodedata.normalize("NFKC", part) for part in visible.split("…"))
        visible = "".join(" " if unicodedata.category(sign) in _UNSEEN else sign for sign in folded)
    line = " ".join(visible.split()).translate(_HARMLESS)
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


@lru_cache(maxsize=100_000)
def quoted(text: str, limit: int = ITEM_LIMIT) -> str:
    """`clean` text in quotation marks; marks inside it are escaped as in JSON."""
    return json.dumps(clean(text, limit), ensure_ascii=False)


def check_id(name: str) -> str:
    """The id itself.

    Raises:
        ValueError: when a language model could not copy it letter by letter.
    """
    if not ID.fullmatch(name):
        raise ValueError(
            f"id {name!r} cannot stand in a prompt: only letters, digits, _ - and inner dots can"
        )
    return name
