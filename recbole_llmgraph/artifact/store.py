"""A folder of named intermediate results, each made once and whole or absent.

An artifact's folder is named by the hash of its recipe: everything that decides its
content. Equal recipes share one folder, between models, runs and processes.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import new_folder, write_json
from recbole_llmgraph.base.hashing import hash_data, hash_file
from recbole_llmgraph.base.progress import say

#: What an artifact is, and the size and SHA-256 of its files. Written last: its presence means "whole".
RECIPE = "recipe.json"
#: How long it took; apart from the recipe, so that equal artifacts are equal to the byte.
COST = "cost.json"


class ArtifactStore:
    """Artifacts below one root, as `<root>/<kind>/<hash of recipe>/`.

    Args:
        root: folder of the store; made when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def get(self, kind: str, recipe: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """Return the artifact's folder, and make it first when it is not there.

        Several processes may ask at once: one makes, the others wait and read. A maker
        that dies, even by `kill -9`, leaves neither a half artifact nor a stale lock.

        Args:
            kind: sort of artifact, e.g. `text_features`; a folder name.
            recipe: plain data that decides the content.
            make: writes the artifact's files into the empty folder it is given.
        """
        if (found := self.find(kind, recipe)) is not None:
            return found
        folder = self.folder(kind, recipe)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The system drops the lock with the process that held it, however that ended.
        with _locked(folder):
            if (found := self.find(kind, recipe)) is None:
                _clear(folder)
                _make(folder, kind, recipe, make)
                found = folder
        return found

    def find(self, kind: str, recipe: Mapping[str, Any]) -> Path | None:
        """The artifact's folder when it is there with all its files in full size, else `None`."""
        folder = self.folder(kind, recipe)
        return folder if _whole(folder) else None

    def folder(self, kind: str, recipe: Mapping[str, Any]) -> Path:
        """Where the artifact lies, or would lie."""
        return self.root / kind / hash_data(recipe)

    def there(self, kind: str) -> list[Path]:
        """Folders of every whole artifact of a kind, sorted."""
        return [folder for folder in sorted((self.root / kind).glob("[!.]*")) if _whole(folder)]

    def seconds(self, kind: str, recipe: Mapping[str, Any]) -> float | None:
        """Wall-clock seconds that the artifact took to make, or `None` when it is not there."""
        if (found := self.find(kind, recipe)) is None:
            return None
        return float(json.loads((found / COST).read_text(encoding="utf-8"))["seconds"])


def read_recipe(folder: Path) -> dict[str, Any]:
    """The recipe of an artifact's folder.

    Raises:
        UserError: when the folder is no artifact.
    """
    recipe: dict[str, Any] = _record(folder)["recipe"]
    return recipe


def verify(folder: Path) -> None:
    """Compare every file of an artifact with the hash in its recipe.

    Raises:
        UserError: naming the first file that is missing or differs.
    """
    for name, fact in _record(folder)["files"].items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: missing; delete {folder} and run again to make it anew")
        if hash_file(path) != fact["sha256"]:
            raise UserError(f"{path}: damaged (hash differs); delete {folder} and run again to make it anew")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of one artifact; say so when another process has it."""
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        say(f"{_label(folder)}: another process is making it, waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(folder: Path, kind: str, recipe: Mapping[str, Any], make: Callable[[Path], None]) -> None:
    """Let `make` fill a folder beside `folder`, describe it, move it into place."""
    say(f"{_label(folder)}: making it")
    started = time.monotonic()
    with new_folder(folder) as temporary:
        make(temporary)
        files = {str(p.relative_to(temporary)): p for p in sorted(temporary.rglob("*")) if p.is_file()}
        facts = {name: {"size": p.stat().st_size, "sha256": hash_file(p)} for name, p in files.items()}
        seconds = time.monotonic() - started
        write_json(temporary / COST, {"seconds": round(seconds, 3)})
        write_json(temporary / RECIPE, {"kind": kind, "recipe": recipe, "files": facts})
        for path in files.values():
            _flush(path)
    say(f"{_label(folder)}: made in {seconds:.1f} s")


def _clear(folder: Path) -> None:
    """Drop what a killed maker or a damaged disk left in the artifact's place. Call with its lock held."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        if left.is_dir():
            shutil.rmtree(left)
    if folder.exists():
        say(f"{_label(folder)}: incomplete on disk, making it again")
        shutil.rmtree(folder)


def _whole(folder: Path) -> bool:
    """Whether the folder holds a recipe and all of its files in the size that was written."""
    try:
        files = json.loads((folder / RECIPE).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == fact["size"] for name, fact in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _record(folder: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{folder}: no artifact (no readable {RECIPE}); name a folder with one") from None
    return record


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _label(folder: Path) -> str:
    return f"artifact {folder.parent.name}/{folder.name}"
