"""Claims keep other processes off, and end with their process."""

import subprocess
import sys
from pathlib import Path

import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.oracle.backend import digest
from recbole_llmgraph.oracle.claims import Claims

OTHER = """
import sys
from pathlib import Path
from recbole_llmgraph.oracle.claims import Claims
claims = Claims(Path(sys.argv[1]))
print([claims.take(key) for key in sys.argv[2:]], flush=True)
input()
"""


def other(path: Path, *keys: str) -> tuple["subprocess.Popen[str]", str]:
    """Another process that claims keys and stays; what it got."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, path, *keys], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "cache.claims"


def test_each_key_belongs_to_one_process_until_it_ends(path: Path) -> None:
    one, two = digest("one"), digest("two")
    mine = Claims(path)
    assert mine.take(one)
    process, told = other(path, one, two)
    try:
        assert told == "[False, True]"
        assert not mine.take(two)
        assert mine.take(one)  # again: it is this process's already
    finally:
        process.kill()
        process.communicate()
    assert mine.take(two)


def test_released_and_closed_claims_are_free(path: Path) -> None:
    one, two, three = map(digest, "123")
    mine = Claims(path)
    mine.release(one)  # before anything was taken: nothing to do
    assert mine.take(one) and mine.take(two) and mine.take(three)
    mine.release(one)
    process, told = other(path, one, two)
    process.communicate("\n")
    assert told == "[True, False]"
    mine.close()
    mine.close()
    process, told = other(path, one, two, three)
    process.communicate("\n")
    assert told == "[True, True, True]"
    assert path.stat().st_size == 0


def test_where_nothing_can_be_locked_one_line_says_so(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(UserError, match=r"cache\.claims: cannot be locked"):
        Claims(path).take(digest("one"))
    (path.parent / "file").touch()
    with pytest.raises(UserError, match="cannot be locked"):
        Claims(path.parent / "file" / "cache.claims").take(digest("one"))
