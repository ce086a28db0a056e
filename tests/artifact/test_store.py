"""Artifacts are made once and are whole or absent, whoever dies meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recbole_llmgraph.artifact.store import COST, RECIPE, ArtifactStore, read_recipe, verify
from recbole_llmgraph.base.errors import UserError

RECIPE_A = {"encoder": "x", "dim": 4}

#: Makes the artifact of RECIPE_A; says `begun`, then waits in the middle for the file `go`.
MAKER = """
import sys, time
from pathlib import Path
from recbole_llmgraph.artifact.store import ArtifactStore
root, work = Path(sys.argv[1]), Path(sys.argv[2])
def make(folder):
    with (work / "begun").open("a") as log:
        log.write("one\\n")
    (folder / "half").write_text("half")
    while not (work / "go").exists():
        time.sleep(0.01)
    (folder / "rows.txt").write_text("rows")
print(ArtifactStore(root).get("kind", {"encoder": "x", "dim": 4}, make))
"""


def start(root: Path, work: Path) -> subprocess.Popen:
    work.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-c", MAKER, str(root), str(work)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} never came"
        time.sleep(0.01)


def write_rows(folder: Path) -> None:
    (folder / "rows.txt").write_text("rows")
    (folder / "more").mkdir()
    (folder / "more" / "a.txt").write_text("a")


def refuse(folder: Path) -> None:
    raise AssertionError("made a second time")


def test_made_once_and_described(tmp_path):
    store = ArtifactStore(tmp_path)
    assert store.find("kind", RECIPE_A) is None
    folder = store.get("kind", RECIPE_A, write_rows)
    assert (
        folder == store.get("kind", dict(reversed(RECIPE_A.items())), refuse) == store.find("kind", RECIPE_A)
    )
    assert folder.parent == tmp_path / "kind"
    assert read_recipe(folder) == RECIPE_A
    assert set(json.loads((folder / RECIPE).read_text())["files"]) == {"rows.txt", "more/a.txt"}
    assert store.seconds("kind", RECIPE_A) >= 0
    verify(folder)


def test_other_recipe_or_kind_is_another_artifact(tmp_path):
    store = ArtifactStore(tmp_path)
    folders = {
        store.get("kind", RECIPE_A, write_rows),
        store.get("kind", RECIPE_A | {"dim": 5}, write_rows),
        store.get("sort", RECIPE_A, write_rows),
    }
    assert len(folders) == 3


def test_equal_artifacts_are_equal_to_the_byte(tmp_path):
    one, two = (ArtifactStore(tmp_path / name).get("kind", RECIPE_A, write_rows) for name in "ab")
    for path in sorted(one.rglob("*")):
        if path.is_file() and path.name != COST:
            assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()


def test_a_maker_that_fails_leaves_nothing(tmp_path):
    store = ArtifactStore(tmp_path)

    def fail(folder):
        write_rows(folder)
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        store.get("kind", RECIPE_A, fail)
    assert store.find("kind", RECIPE_A) is None
    assert [p for p in (tmp_path / "kind").iterdir() if p.is_dir()] == []
    verify(store.get("kind", RECIPE_A, write_rows))


def test_kill_9_leaves_no_half_artifact_and_no_lock(tmp_path):
    root, work = tmp_path / "store", tmp_path / "work"
    store = ArtifactStore(root)
    maker = start(root, work)
    wait_for(work / "begun")
    os.kill(maker.pid, signal.SIGKILL)
    maker.wait()
    assert store.find("kind", RECIPE_A) is None
    begun = time.monotonic()
    verify(store.get("kind", RECIPE_A, write_rows))
    assert time.monotonic() - begun < 5, "waited for the lock of a dead process"
    assert [p.name for p in (root / "kind").iterdir() if p.is_dir()] == [store.folder("kind", RECIPE_A).name]


def test_several_processes_make_it_once(tmp_path):
    root, work = tmp_path / "store", tmp_path / "work"
    processes = [start(root, work) for _ in range(3)]
    wait_for(work / "begun")
    time.sleep(0.3)
    (work / "go").touch()
    answers = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert set(answers) == {str(ArtifactStore(root).find("kind", RECIPE_A))}
    assert (work / "begun").read_text() == "one\n"


def test_a_waiting_process_takes_over_from_a_killed_one(tmp_path):
    root, work = tmp_path / "store", tmp_path / "work"
    first = start(root, work)
    wait_for(work / "begun")
    second = start(root, work)
    time.sleep(1.0)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    (work / "go").touch()
    answer = second.communicate(timeout=60)[0].strip()
    verify(Path(answer))
    assert (work / "begun").read_text() == "one\none\n"


def test_truncated_file_is_made_again(tmp_path):
    store = ArtifactStore(tmp_path)
    (store.get("kind", RECIPE_A, write_rows) / "rows.txt").write_text("ro")
    assert store.find("kind", RECIPE_A) is None
    verify(store.get("kind", RECIPE_A, write_rows))


def test_verify_finds_a_flipped_byte(tmp_path):
    folder = ArtifactStore(tmp_path).get("kind", RECIPE_A, write_rows)
    (folder / "rows.txt").write_text("rowz")
    with pytest.raises(UserError, match=r"rows\.txt: damaged"):
        verify(folder)
    (folder / "rows.txt").unlink()
    with pytest.raises(UserError, match=r"rows\.txt: missing"):
        verify(folder)
    with pytest.raises(UserError, match="no artifact"):
        verify(tmp_path)
