"""Real processes, killed with SIGKILL at random moments and started again, end as if nothing had happened."""

import contextlib
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recbole_llmgraph.store.runs import read_run
from recbole_llmgraph.suite.command import run_command

RUN = Path(__file__).resolve().parents[2] / "benchmarks" / "run.py"
MODELS = ("HeLLMPre", "SASRec", "HeLLM")
#: Long enough to be hit, short enough to be waited for.
EPOCHS = ("--set=HeLLMPre.epochs=8", "--set=SASRec.epochs=8", "--set=HeLLM.epochs=5")


class Victim:
    """Starts the command in `folder` over and over."""

    def __init__(self, line: list[str], folder: Path) -> None:
        self.command = [sys.executable, str(RUN), *line]
        self.folder, self.told = folder, ""
        self.environment = {**os.environ, "RECBOLE_LLMGRAPH_CHECKPOINT_SECONDS": "0"}

    def start(self, when: Callable[[str], bool] | None = None, delay: float = 0.0) -> int:
        """Run until a line of its progress meets `when`, kill it `delay` seconds later; its exit code."""
        process = subprocess.Popen(
            self.command, cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        with process.stderr as stream:
            for text in stream:
                self.told += text
                if when is not None and when(text):
                    time.sleep(delay)
                    process.kill()
                    break
            self.told += stream.read()
        return process.wait(timeout=60)


def results(store: Path) -> dict[str, Any]:
    """Everything of a store's runs that must not depend on how often they were stopped."""
    found: dict[str, Any] = {}
    for model in MODELS:
        (folder,) = store.glob(f"mini/{model}/*")
        record = read_run(folder)
        epochs = pd.read_csv(folder / "epochs.csv").drop(columns="seconds")
        found[model] = {
            "key": record.key, "metrics": record.metrics, "best": record.best_epoch, "run": record.epochs_run,
            "per_user": (folder / "per_user.parquet").read_bytes(),
            "topk": pd.read_parquet(folder / "topk.parquet").to_csv(),
            "epochs": epochs.to_csv(),
        }  # fmt: skip
    for path in store.glob("artifacts/item_table/*/table.safetensors"):
        found[path.parent.name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def uninterrupted(line_of: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of the same command, run once in this process and left in peace."""
    folder = tmp_path_factory.mktemp("peace")
    with contextlib.chdir(folder):
        assert run_command("", line_of(folder / "runs")) == 0
    return results(folder / "runs")


@pytest.fixture(scope="module")
def line_of(command_line: Any) -> Callable[[Path], list[str]]:
    """Function: store -> arguments that train HeLLM and what it stands on."""
    return lambda store: command_line("HeLLM", store, *EPOCHS)


def after_epochs(model: str, count: int) -> Callable[[str], bool]:
    """True at the line of the `count`-th epoch that this sitting trains after `model` begins."""
    seen = {"on": False, "epochs": 0}

    def when(text: str) -> bool:
        if ": training (" in text:
            seen["on"] = text.startswith(f"{model} on ")
        if seen["on"] and re.match(r"\s+train \d+/\d+ ", text):
            seen["epochs"] += 1
        return bool(seen["on"] and seen["epochs"] >= count)

    return when


def test_killed_in_every_stage_and_resumed_to_the_last_digit(
    line_of: Any, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    dice = random.Random(20)
    victim = Victim(line_of(tmp_path / "runs"), tmp_path)
    for model in MODELS:
        code = victim.start(after_epochs(model, dice.randint(1, 4)), delay=dice.uniform(0, 0.1))
        assert code == -9, victim.told
    assert victim.start() == 0, victim.told
    assert len(re.findall(r"resuming after \d+ epochs", victim.told)) >= 2
    assert results(tmp_path / "runs") == uninterrupted
    assert not list((tmp_path / "runs" / "work").rglob("*.pt"))


@pytest.mark.slow
def test_two_processes_share_a_stage_and_train_it_once(
    command_line: Any, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    """HeLLM and HeLLMPre asked for at the same time: one trains the stage, the other waits and reads."""
    asked = {"HeLLM": EPOCHS, "HeLLMPre": EPOCHS[:1]}
    lines = [command_line(models, tmp_path / "runs", *sets) for models, sets in asked.items()]
    pair = [
        subprocess.Popen(
            [sys.executable, str(RUN), *line], cwd=tmp_path, text=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for line in lines
    ]  # fmt: skip
    told = [process.communicate(timeout=120)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], told
    assert "".join(told).count("HeLLMPre on mini, seed 1: training") == 1
    assert results(tmp_path / "runs") == uninterrupted


@pytest.mark.slow
def test_killed_a_dozen_times_at_any_moment(
    line_of: Any, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    """Moments drawn over the whole life of the process: start, preparing, training, validating, writing."""
    started = time.monotonic()
    assert Victim(line_of(tmp_path / "calm" / "runs"), tmp_path).start() == 0
    whole = time.monotonic() - started
    dice = random.Random()
    victim = Victim(line_of(tmp_path / "runs"), tmp_path)
    killed = 0
    for _ in range(12):
        process = subprocess.Popen(
            victim.command, cwd=tmp_path, env=victim.environment, stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(timeout=dice.uniform(0.2, 0.9) * whole)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
        process.wait(timeout=60)
    assert killed >= 1
    assert victim.start() == 0, victim.told
    assert results(tmp_path / "runs") == uninterrupted
