"""Content hashes: of files, of plain data, of arrays. One wording for every key in the suite."""

import hashlib
import json
from pathlib import Path
from typing import Any

#: Hex digits kept in keys that people read (run folders, artifact folders).
SHORT = 16


def canonical(data: Any) -> str:
    """JSON with sorted keys and no spaces: equal data give equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def hash_data(data: Any) -> str:
    """Short SHA-256 of plain data (dicts, lists, numbers, text)."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()[:SHORT]


def hash_bytes(*parts: bytes) -> str:
    """Short SHA-256 of byte strings; each part is length-prefixed, so parts cannot run together."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:SHORT]


def hash_file(path: Path) -> str:
    """Full SHA-256 of a file's bytes as they lie on disk."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
