"""Where weights come from: `hub:<id>[@revision]` or `path:<folder>`."""

from dataclasses import dataclass
from pathlib import Path

from recbole_llmgraph.base.errors import UserError


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
        return self._file("config.json").parent.name

    def has(self, file: str) -> bool:
        """Whether the repository holds this file."""
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return self._fetch(file).is_file()
        except EntryNotFoundError:
            return False

    def _file(self, file: str) -> Path:
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
        return "/".join(parts[-2:]) if parts[-1] in ("hf", "model") else parts[-1]


def read_source(address: str) -> HubSource | FolderSource:
    """Read `hub:<id>[@revision]` or `path:<folder>`.

    Raises:
        UserError: when the address is malformed or the folder holds no `config.json`.
    """
    kind, _, rest = address.partition(":")
    if not rest or kind not in ("hub", "path"):
        raise UserError(f"'{address}': expected hub:<id>[@revision] or path:<folder>")
    if kind == "hub":
        name, _, revision = rest.partition("@")
        return HubSource(name, revision or None)
    folder = Path(rest).expanduser()
    if not folder.is_dir():
        raise UserError(f"{address}: no such folder")
    if not (folder / "config.json").is_file():
        raise UserError(f"{address}: holds no config.json; name the folder of a transformers model")
    return FolderSource(folder)
