"""Replies that were paid for, in one SQLite file that several processes share.

Keyed by hash of template, version, conversation, model and decoding. A reply is on disk before anything is
made of it, so neither a killed process nor a power cut loses one. The file uses SQLite's rollback journal:
unlike a write-ahead log it works wherever file locks do.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.hashing import canonical
from recbole_llmgraph.oracle.backend import Backend, Call, Reply, digest
from recbole_llmgraph.oracle.cost import Usage
from recbole_llmgraph.oracle.records import Record, read_records, write_records

#: Seconds to wait for another process that writes.
PATIENCE = 60.0
#: Rises when an older reader could misread a newer file.
SCHEMA = 1
_COLUMNS = tuple(Record.model_fields)
_NAMES = ", ".join(_COLUMNS)
_TABLES = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, origin TEXT NOT NULL,
    prompt TEXT NOT NULL, task TEXT NOT NULL, version INTEGER NOT NULL, model TEXT NOT NULL,
    decoding TEXT NOT NULL, messages TEXT, reply TEXT NOT NULL, retries INTEGER NOT NULL,
    tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, seconds REAL NOT NULL, money REAL,
    asked TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS paid ON replies (origin, money);
"""


def call_key(call: Call, backend: Backend) -> str:
    """What decides a reply: template, version, conversation, model, decoding."""
    return digest([call.prompt, backend.identity, _decoding(call, backend)])


def _decoding(call: Call, backend: Backend) -> dict[str, object]:
    return {"max_tokens": call.template.max_tokens, **backend.decoding}


class ReplyCache:
    """The replies of one file.

    Args:
        path: the file; made, with its folder, when the first reply is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._held = threading.local()
        """`place`: inode and connection of a file that `held` keeps open."""

    def get(self, key: str) -> Reply | None:
        """The reply kept under a key."""
        if not self.path.is_file():
            return None
        with self._open() as database:
            row = database.execute(f"SELECT {_NAMES} FROM replies WHERE key = ?", (key,)).fetchone()
        return _record(row).as_reply() if row else None

    def put(self, backend: Backend, replies: Sequence[tuple[Call, Reply]]) -> list[Reply]:
        """Keep replies in one transaction; returns those that count: another process may have been first."""
        if not replies:
            return []
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._open() as database:
            for call, reply in replies:
                self._insert(database, _describe(call, backend, reply, now), "asked")
        return [self.get(call_key(call, backend)) or reply for call, reply in replies]

    def spent(self) -> float:
        """US dollars for all replies that were asked through this file; imported ones were paid elsewhere."""
        if not self.path.is_file():
            return 0.0
        with self._open() as database:
            (total,) = database.execute("SELECT SUM(money) FROM replies WHERE origin = 'asked'").fetchone()
        return float(total or 0.0)

    def costs(self) -> dict[tuple[str, str], Usage]:
        """What the replies of each model to each template cost when they were asked, wherever that was."""
        found: dict[tuple[str, str], Usage] = {}
        for record in self.records():
            name = (record.model, f"{record.task}.v{record.version}")
            found[name] = found.get(name, Usage()) + record.as_reply().usage
        return found

    def records(self, model: str | None = None) -> Iterator[Record]:
        """Every kept reply, or one model's, in an order that does not depend on when it was asked."""
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such file; name a cache of answers")
        with self._open() as database:
            rows = database.execute(f"SELECT {_NAMES} FROM replies ORDER BY model, task, version, key")
            yield from (record for record in map(_record, rows) if model in (None, record.model))

    def export(self, path: Path, *, model: str | None = None, prompts: bool = False) -> int:
        """Write replies as JSON lines, which `replay:` and `load` read; their number.

        Args:
            path: the file to write.
            model: of this one only.
            prompts: with the conversations, which hold text of the dataset.
        """
        records = self.records(model)
        if not prompts:
            records = (record.model_copy(update={"messages": None}) for record in records)
        return write_records(path, records)

    def load(self, path: Path) -> tuple[int, int]:
        """Take over exported replies: numbers of new ones, and of those that were there already.

        Raises:
            UserError: naming file and line when one is no record; nothing is taken over then.
        """
        counts = [0, 0]
        with self._open() as database:
            for record in read_records(path):
                counts[not self._insert(database, record, "imported")] += 1
        return counts[0], counts[1]

    @staticmethod
    def _insert(database: sqlite3.Connection, record: Record, origin: str) -> bool:
        """Whether the reply is new."""
        values = record.model_dump(mode="json")
        for name in ("decoding", "messages"):
            values[name] = None if values[name] is None else canonical(values[name])
        marks = ", ".join("?" * (len(_COLUMNS) + 2))
        row = (record.key, origin, *(values[name] for name in _COLUMNS))
        text = f"INSERT OR IGNORE INTO replies (key, origin, {_NAMES}) VALUES ({marks})"
        return database.execute(text, row).rowcount == 1

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the file open for many operations of this thread."""
        self._held.place = None
        try:
            yield
        finally:
            if self._held.place is not None:
                self._held.place[1].close()
            del self._held.place

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection; what is done inside is on disk, whole, when the block ends."""
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            database = self._connection()
            try:
                with database:
                    yield database
            finally:
                if not hasattr(self._held, "place"):
                    database.close()
        except sqlite3.Error as error:
            raise UserError(f"{self.path}: cannot be used as a cache of answers ({error})") from None

    def _connection(self) -> sqlite3.Connection:
        """The held connection while its file still lies there, else a new one."""
        place = getattr(self._held, "place", None)
        if place is not None and self.path.exists() and self.path.stat().st_ino == place[0]:
            return cast(sqlite3.Connection, place[1])
        database = sqlite3.connect(self.path, timeout=PATIENCE)
        try:
            _prepare(database, self.path)
        except BaseException:
            database.close()
            raise
        if hasattr(self._held, "place"):
            self._held.place = (self.path.stat().st_ino, database)
        return database


def _describe(call: Call, backend: Backend, reply: Reply, now: str) -> Record:
    used = reply.usage
    return Record(
        prompt=call.prompt, task=call.template.task, version=call.template.version, model=backend.identity,
        decoding=_decoding(call, backend), messages=[(m.role, m.text) for m in call.messages],
        reply=reply.text, retries=used.retries, tokens_in=used.tokens_in, tokens_out=used.tokens_out,
        seconds=used.seconds, money=used.money, asked=now,
    )  # fmt: skip


def _record(row: tuple[object, ...]) -> Record:
    """A row as it was written; nothing is checked again, since a key cannot be met by accident."""
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in ("decoding", "messages"):
        text = values[name]
        values[name] = json.loads(text) if isinstance(text, str) else None
    return Record.model_construct(**values)  # type: ignore[arg-type]


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    # FULL is the default of most builds, not of all; a journal cut to nothing costs less than one deleted
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA journal_mode = TRUNCATE")
    (found,) = database.execute("PRAGMA user_version").fetchone()
    if found > SCHEMA:
        raise UserError(f"{path}: written by a newer version of this suite; update it")
    if found < SCHEMA:
        database.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")
