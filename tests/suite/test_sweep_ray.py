"""Sweeps on a real Ray of this machine: nothing is run twice, whoever is killed, and the test part waits."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.store.runs import read_run
from recbole_llmgraph.store.sweeps import read_sweep
from recbole_llmgraph.store.trials import Trial
from recbole_llmgraph.suite.ray_pool import Pool, opened
from recbole_llmgraph.suite.sweep.command import sweep_command

ROOT = Path(__file__).resolve().parents[2]
SWEEP = ROOT / "benchmarks" / "sweep.py"


class Asked:
    """A job that answers by its config."""

    def __call__(self, config: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        report({"valid": 0.5, "told": "halfway"})
        if config["ask"] == "mistake":
            raise UserError("tau=-1: a user's mistake")
        if config["ask"] == "fault":
            raise ZeroDivisionError("ours")
        if config["ask"] == "die":
            os.kill(os.getpid(), 9)
        return {"answer": config["ask"], "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "pid": os.getpid()}

    def label(self, config: dict[str, Any]) -> str:
        return str(config["ask"])


class Seeing:
    """A job that builds a RecBole configuration, which overwrites `CUDA_VISIBLE_DEVICES` when left alone."""

    def __init__(self, cell: Any, ready: Any) -> None:
        self.cell, self.ready = cell, ready

    def __call__(self, config: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        from recbole_llmgraph.host.config import _gpu_id
        from recbole_llmgraph.suite.run import make_cell_config

        given = os.environ["CUDA_VISIBLE_DEVICES"]
        make_cell_config(self.cell, self.cell.settings, self.ready, "cpu")
        time.sleep(3)  # so that both are at work at once
        return {"given": given, "after": os.environ["CUDA_VISIBLE_DEVICES"], "recbole": _gpu_id("cuda")}

    def label(self, config: dict[str, Any]) -> str:
        return "seeing"


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """One Ray for the module: two cores and two GPUs, which Ray need not see to assign."""
    import ray

    ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False,
             logging_level="ERROR", object_store_memory=100 * 2**20)  # fmt: skip
    yield ray
    ray.shutdown()


def asked(pool: Pool, tmp_path: Path, *words: str) -> list[dict[str, Any]]:
    from ray import tune

    from recbole_llmgraph.suite.ray_jobs import run_jobs

    with opened(pool):
        space = {"ask": tune.grid_search(list(words))}
        return run_jobs(pool, Asked(), space, total=len(words), scratch=tmp_path / "scratch")


@pytest.mark.slow
def test_jobs_answer_and_leave_nothing_behind(
    ray: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = asked(Pool(), tmp_path, "a", "b", "c")
    assert sorted(result["answer"] for result in found) == ["a", "b", "c"]
    assert len({result["pid"] for result in found}) <= 2  # processes are used again
    assert not (tmp_path / "scratch").exists()
    assert "[3/3]" in capsys.readouterr().err
    assert ray.is_initialized()  # ours stays open


@pytest.mark.slow
def test_mistakes_come_back_in_one_line_and_faults_with_their_traceback(ray: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tau=-1: a user's mistake"):
        asked(Pool(), tmp_path, "a", "mistake")
    with pytest.raises(RuntimeError, match="ZeroDivisionError: ours"):
        asked(Pool(), tmp_path, "a", "fault")


@pytest.mark.slow
def test_a_job_that_no_machine_can_hold_is_refused_at_once(ray: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--cpus-per-trial 64: the largest machine here has 2 cores"):
        asked(Pool(cpus=64), tmp_path, "a")
    with pytest.raises(UserError, match="--gpus-per-trial 3: the largest machine here has 2 GPUs"):
        asked(Pool(gpus=3), tmp_path, "a")


@pytest.mark.slow
def test_gpus_that_ray_assigns_are_honoured(ray: Any, tmp_path: Path, workshop: Any) -> None:
    """RecBole's Config would put every trial on GPU 0."""
    from ray import tune

    from recbole_llmgraph.suite.ray_jobs import run_jobs

    pool = Pool(gpus=1)
    work = Seeing(workshop.cell("BPR"), workshop.miniature.ready)
    with opened(pool):
        space = {"job": tune.grid_search([1, 2])}
        found = run_jobs(pool, work, space, total=2, scratch=tmp_path / "scratch")
    assert sorted(result["given"] for result in found) == ["0", "1"]
    assert all(result["given"] == result["after"] == result["recbole"] for result in found)


# -- whole sweeps --------------------------------------------------------------------------

FAST = ("--set=embedding_size=8", "--set=train_batch_size=64")


def line(miniature: Any, *more: str, model: str = "LightGCN") -> list[str]:
    return [
        f"--model={model}", f"--dataset={miniature.card_path}", f"--data={miniature.data}",
        f"--source={miniature.source}", "--store=runs", "--out=out", "--preset=quick", *more,
    ]  # fmt: skip


def trials(store: Path) -> dict[str, Trial]:
    found = [Trial(**json.loads(path.read_text())) for path in store.glob("trials/*/*/*.json")]
    return {trial.key: trial for trial in found}


@pytest.mark.slow
def test_a_stage_is_trained_once_for_a_whole_sweep_of_what_stands_on_it(
    ray: Any, house: Any, miniature: Any, command_line: Any, tmp_path: Path
) -> None:
    sets = [text for text in command_line("HeLLM", tmp_path / "runs") if text.startswith("--set")]
    kept = [text for text in sets if text.split("=")[1].split(".")[0] in ("HeLLM", "HeLLMPre", "SASRec")]
    more = [*kept, "--axis=prefix_length=2,3,4", "--set=HeLLM.epochs=1", "--parallel=2"]
    assert sweep_command("", line(miniature, *more, model="HeLLM")) == 0
    assert len(trials(house.store)) == 3
    for stage in ("HeLLMPre", "SASRec"):
        assert len(list(house.store.glob(f"mini/{stage}/*/run.json"))) == 1
    assert not list(house.store.glob("mini/HeLLM/*"))


@pytest.mark.slow
def test_an_optuna_search_prunes_chooses_and_tests_once(
    ray: Any, house: Any, miniature: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    more = (*FAST, "--for=tune", "--axis=learning_rate=1e-4..1e-1", "--axis=n_layers", "--trials=8",
            "--set=epochs=9", "--parallel=2", "--metric=ndcg@10", "--name=found")  # fmt: skip
    assert sweep_command("", line(miniature, *more)) == 0
    sweep = read_sweep(Path("out/found"))
    states = [trial.status for trial in sweep.trials]
    assert len(states) <= 8 and set(states) <= {"finished", "pruned"} and "finished" in states
    assert sweep.chosen is not None
    best = max((t for t in sweep.trials if t.score), key=lambda t: t.score or 0.0)
    assert sweep.chosen.point == best.point and sweep.chosen.valid == best.score
    (run,) = house.store.glob("mini/LightGCN/*/run.json")  # one test in all
    assert sweep.chosen.keys == [run.parent.name] == [best.key]
    assert sweep.chosen.test == read_run(run.parent).metrics["test"]["train"]
    assert not list(house.store.glob("work/mini/LightGCN/*/checkpoint.pt"))
    capsys.readouterr()
    before = (Path("out/found/sweep.json")).read_bytes()
    assert sweep_command("", line(miniature, *more)) == 0
    assert "0 trials to run" in capsys.readouterr().err
    assert (Path("out/found/sweep.json")).read_bytes() == before


@pytest.mark.slow
def test_cells_side_by_side_end_as_one_after_the_other(
    ray: Any, house: Any, miniature: Any, command_line: Any, tmp_path: Path
) -> None:
    import torch

    from recbole_llmgraph.suite.command import run_command

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, how in (("alone", []), ("together", ["--parallel=2"])):
            found = command_line("BPR,SASRec,HeLLM", tmp_path / name, "--seeds=1,2", *how)
            assert run_command("", found) == 0
    finally:
        torch.set_num_threads(threads)
    told = {}
    for name in ("alone", "together"):
        runs = [read_run(path.parent) for path in (tmp_path / name).glob("mini/*/*/run.json")]
        told[name] = {(run.model, run.key): run.metrics for run in runs}
    assert told["alone"] == told["together"] and len(told["alone"]) == 8


@pytest.mark.slow
def test_a_users_own_model_runs_and_is_swept_side_by_side(miniature: Any, tmp_path: Path) -> None:
    """Its module and its settings lie where the command is typed, and nowhere else."""
    text = (Path(__file__).parent / "test_outside.py").read_text().split("MODULE = '''")[1].split("'''")[0]
    (tmp_path / "outside_mine.py").write_text(text)
    code = "import sys; from recbole_llmgraph.suite.{0} import {1}; sys.exit({1}('', sys.argv[1:]))"
    common = line(miniature, "--set=epochs=1", "--parallel=2", model="outside_mine:Mine")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for module, name, more in (
        ("command", "run_command", ["--seeds=1,2"]),
        ("sweep.command", "sweep_command", ["--axis=width=2,3", "--name=figure"]),
    ):
        own = [word for word in common if name == "sweep_command" or not word.startswith("--out")]
        done = subprocess.run(
            [sys.executable, "-c", code.format(module, name), *own, *more], cwd=tmp_path, text=True,
            env=environment, capture_output=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "runs").glob("mini/Mine/*/run.json"))) == 2
    assert len(read_sweep(tmp_path / "out" / "figure").trials) == 2


# -- killed drivers ------------------------------------------------------------------------


class Victim:
    """Starts a sweep in `folder` over and over, in a session of its own so that nobody else is hit."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.command = [sys.executable, str(SWEEP), *arguments]
        self.folder = folder
        self.environment = {**os.environ, "RECBOLE_LLMGRAPH_CHECKPOINT_SECONDS": "0", "PYTHONPATH": str(ROOT)}

    def start(self, kill_at: str | None = None) -> tuple[int, str]:
        """Run to the end, or until a line matches `kill_at`; exit code and what was told."""
        told = ""
        process = subprocess.Popen(
            self.command, cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        with process.stderr as stream:
            for text in stream:
                told += text
                if kill_at and re.search(kill_at, text):
                    process.kill()
                    break
            else:
                kill_at = None
        return process.wait(timeout=600), told


@pytest.mark.slow
def test_a_killed_figure_goes_on_and_runs_nothing_again(miniature: Any, tmp_path: Path) -> None:
    more = (*FAST, "--axis=n_layers=1,2,3", "--axis=learning_rate=0.001,0.01,0.02", "--set=epochs=6",
            "--parallel=1", "--name=figure")  # fmt: skip
    victim = Victim(line(miniature, *more), tmp_path)
    code, told = victim.start(kill_at=r"^\[3/6\]")
    assert code == -9, told
    before = trials(tmp_path / "runs")
    assert len(before) >= 3
    code, told = victim.start()
    assert code == 0, told
    found = re.search(r"(\d+) trials, (\d+) finished already, (\d+) to run", told)
    assert found is not None
    total, ended, left = map(int, found.groups())
    assert total == 6 and ended >= len(before) >= 3 and ended + left == 6
    after = trials(tmp_path / "runs")
    assert len(after) == 6
    again = [key for key, trial in before.items() if after[key] != trial]
    assert len(again) == 0  # trials run again
    sweep = read_sweep(tmp_path / "out" / "figure")
    assert len(sweep.trials) == 6 and all(trial.status == "finished" for trial in sweep.trials)


@pytest.mark.slow
def test_a_killed_search_keeps_what_ended_and_what_it_pruned(miniature: Any, tmp_path: Path) -> None:
    axes = ("--axis=n_layers=1,2,3", "--axis=learning_rate=0.0001,0.001,0.05")
    more = (*FAST, *axes, "--for=tune", "--search=grid", "--set=epochs=9", "--parallel=1", "--name=found")
    victim = Victim(line(miniature, *more), tmp_path)
    code, told = victim.start(kill_at=r"^\[5/9\]")
    assert code == -9, told
    (journal,) = (tmp_path / "runs" / "sweeps").iterdir()
    left = [Trial(**json.loads(path.read_text())) for path in journal.glob("*.json")]
    before = {trial.key: trial for trial in left if trial.final}
    assert len(before) >= 5 and {trial.status for trial in before.values()} == {"finished", "pruned"}
    assert not list((tmp_path / "runs").glob("mini/*/*"))  # the test part is closed still
    code, told = victim.start()
    assert code == 0, told
    found = re.search(r"9 trials, (\d+) ended already, (\d+) to run", told)
    assert found is not None and int(found[1]) >= len(before)
    sweep = read_sweep(tmp_path / "out" / "found")
    after = {trial.key: trial for trial in sweep.trials}
    assert len(after) == len(sweep.trials) == 9
    for key, trial in before.items():
        assert after[key] == trial.model_copy(update={"settings": {}})
    assert len(list((tmp_path / "runs").glob("mini/LightGCN/*/run.json"))) == 1
