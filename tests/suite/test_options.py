"""The command line: `[Model.]key=value`, one-line errors, and what a dry run and a listing do not do."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.model.catalogue import model_card
from recbole_llmgraph.suite.command import run_command
from recbole_llmgraph.suite.options import read_sets, seeds

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "benchmarks" / "run.py"


def models(*names: str) -> list[Any]:
    return [model_card(name) for name in names]


def test_a_key_without_a_model_goes_to_every_named_model() -> None:
    found = read_sets(["epochs=3", "SASRec.epochs=5", "HeLLMPre.tau=0.3"], models("SASRec", "LightGCN"))
    assert found == {"SASRec": {"epochs": 5}, "LightGCN": {"epochs": 3}, "HeLLMPre": {"tau": 0.3}}


def test_the_last_of_two_wins() -> None:
    assert read_sets(["epochs=3", "epochs=4"], models("BPR")) == {"BPR": {"epochs": 4}}
    assert read_sets(["BPR.epochs=4", "epochs=3"], models("BPR")) == {"BPR": {"epochs": 3}}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("5", 5), ("0.5", 0.5), ("true", True), ("False", False), ("release", "release"),
     ("builtin:llama-mini", "builtin:llama-mini"), ("hub:a/b@main", "hub:a/b@main"), ("a=b", "a=b"),
     ("", None), ("1E5", 1e5), ("History: {items}", None)],
)  # fmt: skip
def test_values_are_read_as_users_mean_them(text: str, value: Any) -> None:
    found = read_sets([f"key={text}"], models("BPR"))["BPR"]["key"]
    if text.startswith("History"):
        assert found == {"History": {"items": None}}  # yaml's own reading; quote it: --set "key='History: x'"
        return
    assert found == value and type(found) is type(value)


def test_text_that_yaml_reads_otherwise_can_be_quoted() -> None:
    assert read_sets(["instruction='List: {items}'"], models("BPR"))["BPR"]["instruction"] == "List: {items}"


@pytest.mark.parametrize("text", ["epochs", "=3", "", "SASRec.epochs"])
def test_sets_without_a_name_or_value_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--set .*: expected KEY=VALUE or Model\.KEY=VALUE"):
        read_sets([text], models("SASRec"))


def test_sets_for_unknown_models_and_broken_values_are_refused() -> None:
    with pytest.raises(UserError, match=r"no model 'SASrek'\. Did you mean 'SASRec'\?"):
        read_sets(["SASrek.epochs=1"], models("SASRec"))
    with pytest.raises(UserError, match="is not a value"):
        read_sets(["epochs=[1"], models("SASRec"))


@pytest.mark.parametrize("text", ["one", "1,two", "1.5", "", ",", "-1", "4294967296"])
def test_bad_seeds_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--seeds .*: expected whole numbers"):
        seeds(text)


def test_seeds_are_a_list() -> None:
    assert seeds("1, 2,30") == [1, 2, 30]
    assert seeds("0") == [0]


# -- the command ---------------------------------------------------------------------------

MISTAKES: dict[str, tuple[list[str], str]] = {
    "model": (["--model=HeLM", "--dataset=ml-100k"], "no model 'HeLM'. Did you mean 'HeLLM'?"),
    "dataset": (["--model=HeLLM", "--dataset=beuty"], "no dataset 'beuty'. Did you mean 'beauty'?"),
    "setting": (
        ["--model=HeLLM", "--dataset=ml-100k", "--set", "learnin_rate=1"],
        "no setting of HeLLM 'learnin_rate'. Did you mean 'learning_rate'?",
    ),
    "setting of another model": (
        ["--model=SASRec", "--dataset=ml-100k", "--set", "knn_k=1"],
        "no setting of SASRec 'knn_k'.",
    ),
    "setting of a stage": (
        ["--model=HeLLM", "--dataset=ml-100k", "--set", "HeLLMPre.tua=1"],
        "no setting of HeLLMPre 'tua'. Did you mean 'tau'?",
    ),
    "setting of a stranger": (
        ["--model=HeLLM", "--dataset=ml-100k", "--set", "GALRec.tau=1"],
        "no planned model stands on GALRec; settings here belong to HeLLM, HeLLMPre, SASRec",
    ),
    "value": (["--model=BPR", "--dataset=ml-100k", "--set", "epochs=-1"], "BPR.epochs=-1: "),
    "metric": (
        ["--model=BPR", "--dataset=ml-100k", "--set", "valid_metric=mrr@10"],
        "BPR.valid_metric='mrr@10'",
    ),
    "set": (["--model=BPR", "--dataset=ml-100k", "--set", "epochs"], "--set epochs: expected KEY=VALUE"),
    "protocol": (
        ["--model=BPR", "--dataset=beauty", "--protocol=sign"],
        "--protocol sign: beauty offers seq",
    ),
    "unknown protocol": (["--model=BPR", "--dataset=beauty", "--protocol=loo"], "--protocol"),
    "preset": (["--model=BPR", "--dataset=beauty", "--preset=fast"], "--preset"),
    "unknown option": (["--model=BPR", "--dataset=beauty", "--sed=1"], "unrecognized arguments: --sed=1"),
    "seeds": (["--model=BPR", "--dataset=ml-100k", "--seeds=a"], "--seeds a: expected whole numbers"),
    "no seed": (["--model=BPR", "--dataset=ml-100k", "--seeds="], "--seeds : expected whole numbers"),
    "nothing": ([], "name --model and --dataset"),
    "no dataset": (["--model=BPR"], "name --model and --dataset"),
    "no card": (["--model=BPR", "--dataset=nowhere.yaml"], "nowhere.yaml: no such file"),
    "no module": (["--model=nowhere.at.all:Model", "--dataset=ml-100k"], "no module 'nowhere.at.all'"),
    "no class": (["--model=json:Model", "--dataset=ml-100k"], "module 'json' has no class 'Model'"),
    "no model class": (["--model=json:JSONDecoder", "--dataset=ml-100k"], "json:JSONDecoder"),
    "half a class": (["--model=json:", "--dataset=ml-100k"], "json:"),
    "device": (["--model=BPR", "--dataset=ml-100k", "--device=gpu"], "--device gpu: expected cpu, cuda"),
    "source": (["--model=BPR", "--dataset=ml-100k", "--source=nowhere"], "--source nowhere: no such folder"),
    "what the suite fills": (
        ["--model=HeLLMPre", "--dataset=ml-100k", "--set", "text_features=mine.safetensors"],
        "text_features",
    ),
    "describe": (["--describe=HeLMPre"], "no model 'HeLMPre'. Did you mean 'HeLLMPre'?"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, wording = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    assert run_command("", [*arguments, "--store=runs"]) == 2
    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("preparing", "[1/", "ml-100k:"))]
    assert len(lines) == 1 and lines[0].startswith("error: ")
    assert wording in lines[0]
    assert told.out == ""


def test_a_dry_run_prints_settings_and_makes_nothing(
    command_line: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = command_line("HeLLM,BPR", tmp_path / "runs", "--dry-run", "--seeds=1,2", "--set=HeLLM.epochs=9")
    line = [part for part in line if not part.startswith("--data=")] + [f"--data={tmp_path / 'data'}"]
    assert run_command("", line) == 0
    lines = capsys.readouterr().out.splitlines()
    stages = [row.partition(" (")[0] for row in lines if row.startswith("  stands on ")]
    told = [row for row in lines if not row.startswith("  ")]
    assert [row.partition(" (")[0] for row in told] == [
        f"{model} on mini, seed {seed}" for model in ("HeLLM", "BPR") for seed in (1, 2)
    ]
    assert stages == [f"  stands on {m} on mini, seed {n}" for n in (1, 2) for m in ("HeLLMPre", "SASRec")]
    assert "epochs=9" in told[0] and "epochs=9" not in told[2]
    assert list(tmp_path.iterdir()) == []


def test_never_rerun_trains_nothing(
    command_line: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command("", command_line("BPR", tmp_path / "runs", "--rerun=never")) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--list-models", "--list-datasets", "--describe=beauty"])
def test_listings_are_quick_and_load_nothing_heavy(option: str, tmp_path: Path) -> None:
    program = (
        "import sys, json, runpy\n"
        f"sys.argv = ['run.py', {option!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(RUN)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    heavy = {'torch', 'recbole', 'transformers', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "    print(json.dumps([end.code, sorted(heavy)]))\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, cwd=tmp_path, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    *shown, last = done.stdout.splitlines()
    assert json.loads(last) == [0, []]
    assert len(shown) >= 5
    # processor time, which is the wall time of a quiet machine and does not depend on who else works
    assert (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime) < 1.5


@pytest.mark.parametrize("name", ["HeLLM", "HeLLMPre", "SASRec", "S3Rec", "Pop", "ml-100k", "toys"])
def test_describe_tells_all(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("", [f"--describe={name}"]) == 0
    told = capsys.readouterr().out
    assert name in told and len(told.splitlines()) > 10
    if name.startswith("HeLLM"):
        assert "learning_rate" in told and "preset standard" in told and "arXiv" in told
