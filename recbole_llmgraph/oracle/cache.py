"""Replies that were paid for, in one SQLite file that several processes share.

Keyed by hash of template, version, conversation, model and decoding. A reply is on disk before anything is
made of it, so a killed process loses none. The file uses SQLite's rollback journal: unlike a write-ahead log
it is one file, and it works wherever file locks do.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.hashing import canonical
from recbole_llmgraph.oracle.backend import Backend, Call, Reply, digest
from recbole_llmgraph.oracle.cost import Usage

#: Seconds to wait for another process that writes.
PATIENCE = 60.0
#: Rises when an older reader could misread a newer file.
SCHEMA = 1
_COLUMNS = (
    "key", "prompt", "task", "version", "model", "decoding", "messages", "reply", "retries", "tokens_in",
    "tokens_out", "seconds", "money", "asked", "origin",
)  # fmt: skip
_TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, prompt TEXT NOT NULL, task TEXT NOT NULL, version INTEGER NOT NULL,
    model TEXT NOT NULL, decoding TEXT NOT NULL, messages TEXT, reply TEXT NOT NULL,
    retries INTEGER NOT NULL, tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL,
    seconds REAL NOT NULL, money REAL, asked TEXT NOT NULL, origin TEXT NOT NULL
) WITHOUT ROWID
"""


def call_key(call: Call, backend: Backend) -> str:
    """What decides a reply: template, version, conversation, model, decoding."""
    return digest([call.prompt, backend.identity, dict(backend.decoding), call.template.max_tokens])


class ReplyCache:
    """The replies of one file.

    Args:
        path: the file; made, with its folder, when the first reply is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def get(self, key: str) -> Reply | None:
        """The reply kept under a key."""
        if not self.path.is_file():
            return None
        wanted = "SELECT reply, retries, tokens_in, tokens_out, seconds, money FROM replies WHERE key = ?"
        with self._open() as database:
            row = database.execute(wanted, (key,)).fetchone()
        return Reply(row[0], Usage(1, *row[1:])) if row else None

    def put(self, call: Call, backend: Backend, reply: Reply) -> Reply:
        """Keep a reply, and return the one that counts: another process may have been first."""
        key, used = call_key(call, backend), reply.usage
        turns = [[message.role, message.text] for message in call.messages]
        row = (
            key, call.prompt, call.template.task, call.template.version, backend.identity,
            canonical({**backend.decoding, "max_tokens": call.template.max_tokens}), canonical(turns),
            reply.text, used.retries, used.tokens_in, used.tokens_out, used.seconds, used.money,
            datetime.now(UTC).isoformat(timespec="seconds"), "asked",
        )  # fmt: skip
        with self._open() as database:
            self._insert(database, row)
        return self.get(key) or reply

    def spent(self) -> float:
        """US dollars for all replies that were asked through this file; imported ones were paid elsewhere."""
        if not self.path.is_file():
            return 0.0
        with self._open() as database:
            (total,) = database.execute("SELECT SUM(money) FROM replies WHERE origin = 'asked'").fetchone()
        return float(total or 0.0)

    @staticmethod
    def _insert(database: sqlite3.Connection, row: tuple[object, ...]) -> int:
        marks = ", ".join("?" * len(_COLUMNS))
        names = ", ".join(_COLUMNS)
        return database.execute(f"INSERT OR IGNORE INTO replies ({names}) VALUES ({marks})", row).rowcount

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection; what is done inside is on disk, whole, when the block ends."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self.path, timeout=PATIENCE)) as database, database:
                database.execute("PRAGMA synchronous = FULL")
                self._prepare(database)
                yield database
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self.path}: cannot be used as a cache of answers ({error})") from None

    def _prepare(self, database: sqlite3.Connection) -> None:
        (found,) = database.execute("PRAGMA user_version").fetchone()
        if found > SCHEMA:
            raise UserError(f"{self.path}: written by a newer version of this suite; update it")
        if found < SCHEMA:
            database.execute(_TABLE)
            database.execute(f"PRAGMA user_version = {SCHEMA}")
