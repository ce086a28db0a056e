"""Which files a dataset is made from: those that lie here, and those to be downloaded."""

from dataclasses import dataclass, field
from pathlib import Path

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.data.catalogue import DatasetCard, Kind, Source
from recbole_llmgraph.data.download import cache_folder, download
from recbole_llmgraph.data.sources import (
    SOURCES_VARIABLE,
    SourceFile,
    find,
    shipped_folder,
    source_folders,
    verify,
)

#: What a dataset cannot do without when its card offers it; times and images are used where they lie here.
NEEDED: tuple[Kind, ...] = ("interactions", "ids", "items", "attributes")


@dataclass
class Located:
    """Files by what they hold, best first."""

    files: dict[Kind, list[SourceFile]]
    _digests: dict[str, str] = field(default_factory=dict)

    def of(self, kind: Kind) -> list[SourceFile]:
        """Files that hold this kind, each compared with its pinned SHA-256."""
        for found in self.files.get(kind, []):
            if str(found) not in self._digests:
                self._digests[str(found)] = verify(found)
        return self.files.get(kind, [])

    def used(self, used: list[tuple[Kind, SourceFile]]) -> list[tuple[Kind, SourceFile, str]]:
        """The files that were read, with their hashes."""
        return [(kind, found, self._digests[str(found)]) for kind, found in used]


def locate(card: DatasetCard, source: Path | None = None) -> Located:
    """Find every file of a dataset, downloading what is needed and lies nowhere.

    Raises:
        UserError: one message that names every missing file, where it is found and where to put it.
    """
    folders = search_path(card, source)
    files: dict[Kind, list[SourceFile]] = {}
    for entry in card.sources:
        found = find(card, entry, folders)
        if found is not None:
            for kind in entry.holds:
                files.setdefault(kind, []).append(found)
    wanted: list[Source] = []
    for kind in NEEDED:
        offers = [entry for entry in card.sources if kind in entry.holds and not entry.optional]
        if kind not in files and offers and offers[0] not in wanted:
            wanted.append(offers[0])
    if wanted:
        _fetch(card, wanted, folders, files)
    return Located(files)


def search_path(card: DatasetCard, source: Path | None = None) -> list[Path]:
    """Folders in which a dataset's files are looked for, in order."""
    folders = source_folders(source)
    shipped = shipped_folder()
    if shipped is not None and (shipped / card.name).is_dir():
        folders.append(shipped)
    return [*folders, cache_folder()]


def _fetch(
    card: DatasetCard, wanted: list[Source], folders: list[Path], files: dict[Kind, list[SourceFile]]
) -> None:
    failures: list[str] = []
    for entry in wanted:
        try:
            if entry.url is None:
                raise UserError("no public address")
            say(f"{card.name}: downloading {entry.archive or entry.file} from {entry.url}")
            download(entry, cache_folder() / card.name)
        except UserError as error:
            failures.append(f"{entry.archive or entry.file} ({entry.url or entry.note or error})")
            continue
        found = find(card, entry, [cache_folder()])
        if found is not None:
            for kind in entry.holds:
                files.setdefault(kind, []).append(found)
    if failures:
        looked = ", ".join(str(folder) for folder in folders)
        raise UserError(
            f"{card.name}: files are missing and could not be downloaded: {'; '.join(failures)}. "
            f"Looked in {looked}. Put them (plain or .gz) into DIR/{card.name}/ and "
            f"type: --source DIR (or export {SOURCES_VARIABLE}=DIR)"
        )
