"""A real cluster of two `ray start` processes on this machine, one of them killed in mid-sweep."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from recbole_llmgraph.store.sweeps import read_sweep
from recbole_llmgraph.store.trials import Trial
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.sweep.trial import Attempt

ROOT = Path(__file__).resolve().parents[2]
SWEEP = ROOT / "benchmarks" / "sweep.py"
#: A dead node is noticed within seconds; the default takes half a minute. No token in the user's home.
ENVIRONMENT = {
    **os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",
    "RAY_health_check_initial_delay_ms": "2000", "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000", "RAY_health_check_failure_threshold": "3",
    "RECBOLE_LLMGRAPH_CHECKPOINT_SECONDS": "0",
}  # fmt: skip
COUNT = """
import ray, sys
ray.init(sys.argv[1], logging_level="ERROR")
print(sum(node["Alive"] for node in ray.nodes()))
"""


def ray_start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A node with one core; everything it starts is its child."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1",
               "--object-store-memory=80000000", "--disable-usage-stats", *arguments]  # fmt: skip
    with (folder / f"node{len(list(folder.glob('node*')))}.log").open("wb") as log:
        return subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT)


def kill_tree(process: subprocess.Popen[bytes]) -> int:
    """`kill -9` to a node: its raylet, its workers, and what started them. Only its own descendants."""
    try:
        root = psutil.Process(process.pid)
        family = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait(timeout=60)
    return len(family)


class Cluster:
    """A head and one more node."""

    def __init__(self) -> None:
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def start(self, folder: Path) -> None:
        """Both nodes, the second when the head answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self.nodes.append(
            ray_start(
                folder, "--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder / 'r'}"
            )
        )
        self.wait(1)
        self.nodes.append(ray_start(folder, f"--address={self.address}"))
        self.wait(2)

    def wait(self, count: int) -> None:
        """Until so many nodes are alive."""
        end = time.monotonic() + 300
        while time.monotonic() < end:
            done = subprocess.run([sys.executable, "-c", COUNT, self.address], env=ENVIRONMENT, text=True,
                                  capture_output=True, timeout=120)  # fmt: skip
            if done.returncode == 0 and int(done.stdout.split()[-1]) == count:
                return
            time.sleep(2)
        raise TimeoutError(f"no {count} nodes at {self.address}")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="r"))  # short: sockets lie in it
    made = Cluster()
    try:
        made.start(folder)
        yield made
    finally:
        for node in reversed(made.nodes):
            kill_tree(node)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_killed_node_loses_no_trial_and_counts_none_twice(
    cluster: Cluster, miniature: Any, workshop: Any, tmp_path: Path
) -> None:
    """Six trials on two nodes; the second dies by `kill -9` while it trains."""
    arguments = [
        "--model=LightGCN", f"--dataset={miniature.card_path}", f"--data={miniature.data}",
        f"--source={miniature.source}", "--store=runs", "--out=out", "--preset=quick", "--name=figure",
        "--axis=n_layers=1,2,3", "--axis=learning_rate=0.001,0.01,0.02", "--set=epochs=60",
        "--set=eval_step=1", "--set=embedding_size=8", "--set=train_batch_size=16", "--parallel=2",
        f"--ray-address={cluster.address}",
    ]  # fmt: skip
    process = subprocess.Popen([sys.executable, str(SWEEP), *arguments], cwd=tmp_path, env=ENVIRONMENT,
                               text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    told, killed = "", 0
    assert process.stderr is not None
    with process.stderr as stream:
        for text in stream:
            told += text
            if not killed and text.startswith("[1/6]"):  # both nodes are at work
                killed = kill_tree(cluster.nodes[1])
    assert process.wait(timeout=600) == 0, told
    assert killed > 2  # the raylet and at least a worker among them
    assert "its process or node was lost; it starts again from its checkpoint" in told
    cluster.wait(1)

    sweep = read_sweep(tmp_path / "out" / "figure")
    assert len(sweep.trials) == 6 and {trial.status for trial in sweep.trials} == {"finished"}
    assert sorted(trial.point.popitem() for trial in sweep.trials) == sorted(
        [*(("n_layers", n) for n in (1, 2, 3)), *(("learning_rate", r) for r in (0.001, 0.01, 0.02))]
    )
    kept = [Trial(**json.loads(path.read_text())) for path in (tmp_path / "runs").glob("trials/*/*/*.json")]
    assert len(kept) == len({trial.key for trial in kept}) == 6
    for trial in kept:  # every epoch once, whatever was killed in between
        assert [entry.epoch for entry in trial.history] == list(range(1, 61))
    _compare_with_peace(kept, workshop, tmp_path)


def _compare_with_peace(kept: list[Trial], workshop: Any, folder: Path) -> None:
    """The trials' numbers are those of an undisturbed training in this process."""
    from recbole_llmgraph.data.catalogue import dataset_card
    from recbole_llmgraph.model.catalogue import model_card
    from recbole_llmgraph.suite.cell import resolve_cell

    card = dataset_card(str(workshop.miniature.card_path))
    house = House(folder / "peace", workshop.miniature.data, workshop.miniature.source)
    for trial in kept:
        settings = {k: v for k, v in trial.settings.items() if k != "accelerate"}
        cell = resolve_cell(model_card("LightGCN"), card, protocol="seq", preset="quick", seed=1,
                            overrides={"LightGCN": settings})  # fmt: skip
        alone = Attempt(house, cell, trial.key, trial.point).run(lambda _: None)
        assert alone.valid == trial.valid
        assert [e.valid for e in alone.history] == [e.valid for e in trial.history]
