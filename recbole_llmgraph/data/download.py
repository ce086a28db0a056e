"""Downloads with pooch: into a cache folder, with progress, hash and resume of whole files."""

import os
from pathlib import Path

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.catalogue import Source

CACHE_VARIABLE = "RECBOLE_LLMGRAPH_CACHE"
#: Seconds without a byte after which a server counts as unreachable.
TIMEOUT = 20


def cache_folder() -> Path:
    """`$RECBOLE_LLMGRAPH_CACHE`, or the user's own cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "recbole_llmgraph" / "sources"


def download(source: Source, folder: Path) -> Path:
    """Fetch one file (or the archive that holds it) into `folder`; whole or not at all.

    Raises:
        UserError: when the server cannot be reached or sends something else than the card pins.
    """
    import pooch
    import requests

    assert source.url is not None
    name = source.archive or source.url.rsplit("/", 1)[-1]
    # a pinned hash is that of the uncompressed bytes; `sources.verify` compares it for packed files
    packed = source.archive is not None or name.endswith(".gz")
    known = None if packed or source.sha256 == "unknown" else f"sha256:{source.sha256}"
    pooch.get_logger().setLevel("ERROR")
    fetch = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
    try:
        return Path(pooch.retrieve(source.url, known, fname=name, path=folder, downloader=fetch))
    except (requests.RequestException, OSError, ValueError) as error:
        raise UserError(f"{source.url}: could not be downloaded ({type(error).__name__})") from None
