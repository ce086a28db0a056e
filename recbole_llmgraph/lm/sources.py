"""Where weights come from: `hub:<id>[@revision]` or `path:<folder>`."""

from dataclasses import dataclass
from pathlib import Path

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.hashing import hash_data, hash_file

#: Files of a model's folder that decide what it computes.
DECISIVE = {".json", ".safetensors", ".bin", ".txt", ".model"}
#: Last folder names that say nothing by themselves.
NAMELESS = {"hf", "model", "models", "checkpoint"}


@dataclass(frozen=True)
class HubSource:
    """A repository of the Hugging Face hub, at a branch, tag or commit."""

    name: str
    revision: str | None

    @property
    def label(self) -> str:
        """What reports print."""
        return self.name

    def commit(self) -> str:
        """The commit that the revision means now, or meant when the model was last fetched.

        Raises:
            UserError: when the hub is out of reach and nothing of the model is cached.
        """
        return self.file("config.json").parent.name

    def has(self, file: str) -> bool:
        """Whether the repository holds this file."""
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return self._fetch(file).is_file()
        except EntryNotFoundError:
            return False

    def file(self, file: str) -> Path:
        """Fetch one file, or find it in the hub's cache.

        Raises:
            UserError: when neither works.
        """
        from huggingface_hub.errors import HfHubHTTPError

        try:
            return self._fetch(file)
        except (HfHubHTTPError, OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"hub:{self.name}: cannot be fetched ({reason}); check the name, the network "
                "and `hf auth login`, or name a folder by path:<folder>"
            ) from None

    def _fetch(self, file: str) -> Path:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(self.name, file, revision=self.revision))


@dataclass(frozen=True)
class FolderSource:
    """A folder with a model's files."""

    folder: Path

    @property
    def label(self) -> str:
        """What reports print: the folder's name, never the machine's path."""
        parts = self.folder.resolve().parts
        return "/".join(parts[-2:]) if parts[-1] in NAMELESS else parts[-1]

    def has(self, file: str) -> bool:
        """Whether the folder holds this file."""
        return self.file(file).is_file()

    def file(self, file: str) -> Path:
        """The file's path."""
        return self.folder / file

    def has_weights(self) -> bool:
        """Whether there are weights, and not only their configuration."""
        return any(self.folder.glob("*.safetensors")) or any(self.folder.glob("pytorch_model*.bin"))


def read_source(address: str, others: str = "") -> HubSource | FolderSource:
    """Read `hub:<id>[@revision]` or `path:<folder>`.

    Args:
        address: the specification.
        others: what else the caller accepts, for the error.

    Raises:
        UserError: when the address is malformed or the folder holds no `config.json`.
    """
    kind, _, rest = address.partition(":")
    if not rest or kind not in ("hub", "path"):
        allowed = ", ".join(filter(None, ["hub:<id>[@revision]", "path:<folder>", others]))
        raise UserError(f"no model '{address}'. Known forms: {allowed}.")
    if kind == "hub":
        name, _, revision = rest.partition("@")
        return HubSource(name, revision or None)
    folder = Path(rest).expanduser()
    if not folder.is_dir():
        raise UserError(f"{address}: no such folder")
    if not (folder / "config.json").is_file():
        raise UserError(f"{address}: holds no config.json; name the folder of a transformers model")
    return FolderSource(folder)


def folder_hash(folder: Path) -> str:
    """Hash of a model's folder, its documents left out."""
    kept = sorted(p for p in folder.rglob("*") if p.suffix in DECISIVE)
    return hash_data([[p.relative_to(folder).as_posix(), hash_file(p)] for p in kept])
