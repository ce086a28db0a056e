"""What a user can mend is one line and exit code 2, before anything is prepared, trained or started."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from recbole_llmgraph.suite.ablate import ablate_command
from recbole_llmgraph.suite.command import run_command
from recbole_llmgraph.suite.sweep.command import shown, sweep_command

PRE = ("--model=HeLLMPre", "--dataset=beauty")


def told(command: Any, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on standard error."""
    assert command("", list(arguments)) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and not captured.out, captured
    return lines[0]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Nothing may be made."""
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "error: name --model and --dataset"),
        (("--model=HeLLMPr", "--dataset=beauty"), "error: no model 'HeLLMPr'. Did you mean 'HeLLMPre'?"),
        (("--model=HeLLMPre", "--dataset=beuty"), "error: no dataset 'beuty'. Did you mean 'beauty'?"),
        ((*PRE, "--axis=tua"), "error: no axis of HeLLMPre 'tua'. Did you mean 'tau'?"),
        ((*PRE, "--axis=tau=0.9..0.1", "--for=tune"), "error: --axis tau=0.9..0.1: a range is two numbers"),
        ((*PRE, "--axis=tau=0.1..0.9"), "error: --axis tau: a range has no ticks; list values"),
        ((*PRE, "--axis=tau=0.1..0.9", "--for=tune", "--search=grid"), "error: --axis tau: a range has no"),
        ((*PRE, "--axis=tau=0,1"), "error: HeLLMPre.tau=0: Input should be greater than 0"),
        ((*PRE, "--metric=ndgc@10"), "error: no metric 'ndgc@10'. Did you mean 'ndcg@10'?"),
        ((*PRE, "--metric=precision@10"), "error: --metric precision@10: protocol seq measures recall@5,"),
        ((*PRE, "--set=LightGCN.tau=1"), "error: --set LightGCN.tau: no planned model stands on LightGCN"),
        ((*PRE, "--for=tune", "--metric=ndcg@10,recall@20"), "error: --metric ndcg@10,recall@20: a search"),
        ((*PRE, "--search=optuna"), "error: --search optuna: a figure runs every tick; add --for tune"),
        ((*PRE, "--search=hyperband"), "error: argument --search: invalid choice: 'hyperband'"),
        ((*PRE, "--trials=0"), "error: --trials 0: expected a number above 0"),
        ((*PRE, "--max-minutes=-1"), "error: --max-minutes -1: expected a number above 0"),
        ((*PRE, "--grace=0"), "error: --grace 0: expected a number above 0"),
        ((*PRE, "--factor=1"), "error: --factor 1: expected 2 or more"),
        ((*PRE, "--seeds=1,x"), "error: --seeds 1,x: expected whole numbers"),
        ((*PRE, "--set=taw=1"), "error: no setting of HeLLMPre 'taw'. Did you mean 'tau'?"),
        ((*PRE, "--parallel=-1"), "error: --parallel takes whole numbers from 0"),
        ((*PRE, "--cpus-per-trial=0"), "error: --parallel takes whole numbers from 0"),
        ((*PRE, "--device=cuda:1"), "error: --device cuda:1: Ray assigns GPUs to jobs; say --device cuda"),
        ((*PRE, "--gpus-per-trial=1"), "error: --gpus-per-trial 1 does not go with --device cpu"),
        ((*PRE, "--name=x", "--model=HeLLMPre,BPR"), "error: --name x: one name for several sweeps"),
        ((*PRE, "--ray-address=nowhere"), "error: --ray-address nowhere: expected HOST:PORT"),
        ((*PRE, "--ray-address=ray://localhost:10001"), "error: --ray-address ray://localhost:10001: expec"),
        (("--model=Pop", "--dataset=beauty"), "error: Pop declares no axes; name a setting and values"),
        (("--demo",), "error: --demo: no sweeps in tests/report/demo; run it where the repository"),
        (("--draw", "nowhere"), "error: nowhere: no sweep.json here; name the folder of a finished sweep"),
    ],
)
def test_sweeps(arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(sweep_command, capsys, *arguments).startswith(says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((*PRE, "--variants=no_u2"), "error: no variant of HeLLMPre 'no_u2'. Did you mean 'no_u2u'?"),
        (("--model=LightGCN", "--dataset=beauty"), "error: LightGCN declares no ablations"),
        ((*PRE, "--metric=recal@20"), "error: no metric 'recal@20'. Did you mean 'recall@20'?"),
        ((*PRE, "--metric=precision@10"), "error: --metric precision@10: protocol seq measures recall@5,"),
        ((*PRE, "--set=LightGCN.tau=1"), "error: --set LightGCN.tau: no planned model stands on LightGCN"),
        ((*PRE, "--mask=valid"), "error: argument --mask: invalid choice: 'valid'"),
        ((*PRE, "--seeds="), "error: --seeds : expected whole numbers"),
    ],
)
def test_ablations(arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(ablate_command, capsys, *arguments).startswith(says)


@pytest.mark.parametrize("command", [sweep_command, ablate_command, run_command])
def test_a_cluster_where_nobody_answers(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as held:  # bound and not listening: nobody else can answer there
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        started = time.process_time()
        line = told(command, capsys, *PRE, f"--ray-address={address}")
    assert line.startswith(f"error: --ray-address {address}: no Ray cluster answers there; start one with")
    assert time.process_time() - started < 20  # most of it the first import


def test_a_dry_run_says_what_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    line = [*PRE, "--axis=tau=0.1,0.5", "--axis=alpha*beta", "--seeds=1,2", "--set=epochs=20", "--dry-run"]
    assert sweep_command("", line) == 0
    out = capsys.readouterr().out
    assert "HeLLMPre on beauty: tau {0.1, 0.5}, alpha {" in out
    assert "38 ticks x 2 seeds, 20 epochs each" in out  # 2 and 6 x 6


def test_a_dry_ablation_says_what_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate_command("", [*PRE, "--dry-run"]) == 0
    names = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["full", "no_u2u", "no_i2i", "no_cl"]


def test_the_command_on_a_page_names_no_folder() -> None:
    line = ["--model=X", "--store", "far/away", "--data=near", "--axis", "a*b", "--out=x", "--source", "y"]
    assert shown(line) == "python benchmarks/sweep.py --model=X --axis 'a*b'"
