"""benchmarks/prepare.py as a user types it."""

import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def typed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "prepare.py"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_listing_names_every_dataset_quickly_and_without_torch(tmp_path) -> None:
    begun = cpu_of_children()
    done = typed("--list-datasets", "--data", str(tmp_path))
    # processor time: the clock of a busy machine tells nothing
    assert cpu_of_children() - begun < 2
    assert done.returncode == 0
    for name in ("beauty", "sports", "toys", "yelp", "ml-100k", "ml-1m"):
        assert any(
            line.startswith(f"{name} ") and "not prepared" in line for line in done.stdout.splitlines()
        )
    code = (
        "import sys; import recbole_llmgraph.data.prepare, recbole_llmgraph.data.side; "
        "print([m for m in ('torch', 'recbole', 'pandas', 'transformers', 'pooch') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]", loaded.stderr


def test_help_has_examples() -> None:
    done = typed("--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout and "--on-bad-rows" in done.stdout


def test_ml_100k_from_the_wheel_then_ready(tmp_path) -> None:
    done = typed("--dataset=ml-100k", f"--data={tmp_path}", RECBOLE_LLMGRAPH_SOURCES="")
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert done.stdout.startswith("ml-100k: ready in ")
    assert "ml-100k: 943 users, 1,682 items, 100,000 interactions" in done.stderr
    rows = [line.split("\t") for line in (tmp_path / "ml-100k/ml-100k.inter").read_text().splitlines()[1:]]
    assert len(rows) == 100_000
    assert Counter(row[2] for row in rows) == {"1": 6110, "2": 11370, "3": 27145, "4": 34174, "5": 21201}
    titles = (tmp_path / "ml-100k/ml-100k.item").read_text(encoding="utf-8").splitlines()
    # RecBole's file has `V` (video) for the year of this one
    assert titles[1412].startswith(
        "1412\tLand Before Time III: The Time of the Great Giving\tAnimation Children's\t1995"
    )
    again = typed("--dataset", "ml-100k", "--data", str(tmp_path))
    assert again.returncode == 0 and again.stderr == ""


def test_the_data_folder_may_come_from_the_environment(shop, tmp_path) -> None:
    shop.all_of_s3rec()
    done = typed(
        "--dataset",
        str(shop.card()),
        RECBOLE_LLMGRAPH_DATA=str(tmp_path / "elsewhere"),
        RECBOLE_LLMGRAPH_SOURCES=str(shop.folder),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "elsewhere" / "mini" / "mini.inter").is_file()
    assert "note: Mini.item: 1 listed items have no interaction" in done.stdout


def test_mistakes_exit_two_with_one_line(tmp_path, command, capsys) -> None:
    for arguments, said in (
        (["--dataset", "beuty"], "Did you mean 'beauty'?"),
        ([], "--list-datasets"),
        (["--dataset", "ml-100k,sprots"], "Did you mean 'sports'?"),
        (["--dataset", "beauty", "--source", str(tmp_path / "no")], "no such folder"),
    ):
        assert command([*arguments, "--data", str(tmp_path / "data")]) == 2
        error = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("preparing ")]
        assert len(error) == 1 and said in error[0]
    assert not (tmp_path / "data").exists(), "a wrong name stops everything before any work"
