"""Downloads with pooch: into a cache folder, with progress, hash, mirrors, and resume of what was cut off."""

import os
import shutil
from pathlib import Path
from typing import Any

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import track
from recbole_llmgraph.data.catalogue import Source

CACHE_VARIABLE = "RECBOLE_LLMGRAPH_CACHE"
#: Seconds without a byte after which a server counts as unreachable.
TIMEOUT = 20
_BLOCK = 1 << 16


def cache_folder() -> Path:
    """`$RECBOLE_LLMGRAPH_CACHE`, or the user's own cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "recbole_llmgraph" / "sources"


def download(source: Source, folder: Path) -> Path:
    """Fetch one file (or the archive that holds it) into `folder`, from its address or a mirror.

    Raises:
        UserError: when no server can be reached or each sends something else than the card pins.
    """
    import pooch
    import requests

    if source.url is None:
        raise UserError(f"{source.file}: no public address")
    name = source.archive or source.url.rsplit("/", 1)[-1]
    # a pinned hash is that of the uncompressed bytes; `sources.verify` compares it for packed files
    packed = source.archive is not None or name.endswith(".gz")
    known = None if packed or source.sha256 == "unknown" else f"sha256:{source.sha256}"
    pooch.get_logger().setLevel("ERROR")
    fetch = _Resume(folder / f".{name}.part")
    causes = []
    for url in (source.url, *source.mirrors):
        try:
            return Path(pooch.retrieve(url, known, fname=name, path=folder, downloader=fetch))
        except (requests.RequestException, OSError, ValueError) as error:
            causes.append(f"{url}: {_cause(error)}")
    raise UserError("; ".join(causes))


def _cause(error: Exception) -> str:
    return "sent other bytes than the card pins" if isinstance(error, ValueError) else type(error).__name__


class _Resume:
    """A downloader for pooch that goes on where an earlier attempt was cut off.

    Args:
        part: file that keeps what has come so far.
    """

    def __init__(self, part: Path) -> None:
        self._part = part

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        import requests

        self._part.parent.mkdir(parents=True, exist_ok=True)
        have = self._part.stat().st_size if self._part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as answer:
            if answer.status_code == 416:
                # nothing is left to send, or the file has become shorter: from the start
                self._part.unlink()
                return self(url, output_file, None)
            answer.raise_for_status()
            have = have if answer.status_code == 206 else 0
            length = int(answer.headers.get("Content-Length", 0))
            blocks = answer.iter_content(_BLOCK)
            with self._part.open("ab" if have else "wb") as stream:
                total = -(-length // _BLOCK) or None
                for block in track(blocks, f"downloading {url.rsplit('/', 1)[-1]}", total, "x64KiB"):
                    stream.write(block)
        if length and self._part.stat().st_size < have + length:
            raise OSError("cut off")
        shutil.move(self._part, output_file)
