"""Progress on the terminal, and plain lines where there is none.

Everything that may last over five seconds runs inside `track` or reports through `say`.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
#: Seconds between two lines of a log file, where no bar can be drawn.
PLAIN_EVERY = 30.0


def say(text: str) -> None:
    """One line for the user, on standard error, above any bar."""
    tqdm.write(text, file=sys.stderr)


def track(items: Iterable[T], what: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yield `items` with a bar on a terminal, or a line now and then elsewhere."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, unit=unit, leave=False, delay=1.0)
        return
    last = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - last > PLAIN_EVERY:
            last = time.monotonic()
            say(f"{what}: {done}{f' of {total}' if total else ''} {unit}")
        yield item
