"""Source files: where they are looked for, and how their bytes and lines are read.

Order of look-up: `--source DIR`, each folder of `$RECBOLE_LLMGRAPH_SOURCES`, the download cache.
A folder holds the files in a sub-folder named like the dataset, or itself; each file may be plain or `.gz`.
"""

import gzip
import hashlib
import importlib.util
import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import track
from recbole_llmgraph.data.catalogue import DatasetCard, Source
from recbole_llmgraph.data.rows import BadRows

SOURCES_VARIABLE = "RECBOLE_LLMGRAPH_SOURCES"
_BLOCK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class SourceFile:
    """One file found: on disk, plain or gzipped, or a member of a zip archive."""

    source: Source
    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The uncompressed bytes.

        Raises:
            UserError: naming the file and the mend when it cannot be read to its end.
        """
        try:
            with self._stream() as stream:
                yield stream
        except gzip.BadGzipFile as error:
            raise UserError(f"{self}: is no whole gzip file ({error}); fetch it again, or drop .gz") from None
        except (EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise UserError(f"{self}: is cut short or damaged ({error}); fetch it again") from None
        except OSError as error:
            raise UserError(f"{self}: cannot be read ({error.strerror or error})") from None

    @contextmanager
    def _stream(self) -> Iterator[IO[bytes]]:
        if self.member is not None:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                yield stream
        elif self.path.suffix == ".gz":
            with gzip.open(self.path, "rb") as zipped:
                yield io.BufferedReader(zipped, _BLOCK)
        else:
            with self.path.open("rb") as plain:
                yield plain

    def read(self) -> bytes:
        """All uncompressed bytes; an empty file is an error."""
        with self.open() as stream:
            content = stream.read()
        if not content:
            raise UserError(f"{self}: is empty; fetch it again")
        return content

    def sha256(self) -> str:
        """SHA-256 of the uncompressed bytes."""
        digest = hashlib.sha256()
        with self.open() as stream:
            for block in track(
                iter(lambda: stream.read(_BLOCK), b""), f"reading {self.path.name}", unit="MiB"
            ):
                digest.update(block)
        return digest.hexdigest()

    def lines(self, bad: BadRows, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
        """Number (from 1) and text of every line, without its end; lines that do not decode are bad rows."""
        number = 0
        with self.open() as stream:
            for number, raw in enumerate(track(stream, f"reading {self.path.name}", unit="lines"), start=1):
                try:
                    text = raw.decode(encoding).rstrip("\r\n")
                    yield number, text.removeprefix("\ufeff") if number == 1 else text
                except UnicodeDecodeError as error:
                    bad.add(
                        self,
                        number,
                        f"not {encoding.upper()} (byte {error.start + 1} is {raw[error.start]:#04x})",
                    )
        if number == 0:
            raise UserError(f"{self}: is empty; fetch it again")


def source_folders(source: Path | None = None) -> list[Path]:
    """Folders to look in, best first.

    Raises:
        UserError: when one that the user named is not there.
    """
    folders = []
    if source is not None:
        if not source.is_dir():
            raise UserError(f"--source {source}: no such folder")
        folders.append(source)
    for entry in filter(None, os.environ.get(SOURCES_VARIABLE, "").split(os.pathsep)):
        if not Path(entry).is_dir():
            raise UserError(f"${SOURCES_VARIABLE}: {entry}: no such folder")
        folders.append(Path(entry))
    return folders


def shipped_folder() -> Path | None:
    """RecBole's example datasets, found without importing RecBole."""
    spec = importlib.util.find_spec("recbole")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "dataset_example"
    return folder if folder.is_dir() else None


def find(card: DatasetCard, source: Source, folders: list[Path]) -> SourceFile | None:
    """The first file that carries the source's name, in the order of `folders`."""
    for root in folders:
        for folder in (*(root / name for name in card.names), root):
            for name in (source.file, f"{source.file}.gz"):
                path = folder / name
                if path.is_dir():
                    raise UserError(f"{path}: is a folder where a file should be; move it away")
                if path.exists():
                    return SourceFile(source, path)
            if source.archive and (folder / source.archive).is_file():
                return _member(source, folder / source.archive)
    return None


def _member(source: Source, archive: Path) -> SourceFile:
    """The source's file inside a zip archive whose names are all harmless."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{archive}: is no whole zip archive ({error}); fetch it again") from None
    for name in names:
        if name.startswith(("/", "\\")) or ".." in PurePosixPath(name.replace("\\", "/")).parts:
            raise UserError(
                f"{archive}: holds the name '{name}', which leads out of it; fetch it from {source.url}"
            )
    for name in names:
        if name == source.file or name.endswith("/" + source.file):
            return SourceFile(source, archive, name)
    raise UserError(f"{archive}: holds no {source.file}; fetch it again from {source.url}")


def verify(found: SourceFile) -> str:
    """The file's SHA-256, compared with the card's.

    Raises:
        UserError: when the card pins another one.
    """
    digest = found.sha256()
    wanted = found.source.sha256
    if wanted not in ("unknown", digest):
        origin = f" from {found.source.url}" if found.source.url else ""
        raise UserError(
            f"{found}: SHA-256 is {digest[:16]}…, the card pins {wanted[:16]}…; "
            f"remove it and fetch it again{origin}"
        )
    return digest
