"""Which questions are being asked just now, so that processes that share a cache do not ask one twice."""

import fcntl
import os
from pathlib import Path

from recbole_llmgraph.base.errors import UserError

#: Hexadecimal digits of a key that make its place in the file: 60 bits, as far as a file can be locked.
_DIGITS = 15


class Claims:
    """Keys that one process of those that share a cache is asking.

    A claim is a lock on one byte of an empty file, at a place that the key decides. The system drops it when
    its process ends, however that ends, so there is nothing to expire. Locks belong to processes: two
    `Claims` of one process do not keep each other off, and closing one drops what both have.

    Args:
        path: the file beside the cache; made, with its folder, at the first claim.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def take(self, key: str) -> bool:
        """Whether the key is now this process's; False when another process has it.

        Raises:
            UserError: where no file can be made or locked, which the cache beside it needs too.
        """
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            return self._lock(self._file, _place(key))
        except OSError as error:
            raise UserError(f"{self.path}: cannot be locked, beside a cache of answers ({error})") from None

    @staticmethod
    def _lock(file: int, place: int) -> bool:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):  # taken: POSIX allows both
            return False
        return True

    def release(self, key: str) -> None:
        """Let others have it: its reply is kept, or none came."""
        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(key))

    def close(self) -> None:
        """Drop every claim."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _place(key: str) -> int:
    return int(key[:_DIGITS], 16)
