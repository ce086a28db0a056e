"""benchmarks/answers.py as a user types it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recbole_llmgraph.oracle.opening import open_oracle
from recbole_llmgraph.oracle.options import OracleOptions

ROOT = Path(__file__).resolve().parents[2]


def typed(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if "ARTIFACTS" not in name}
    line = [sys.executable, str(ROOT / "benchmarks" / "answers.py"), *words]
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def asked(server: Any, tmp_path: Path, pair_question: Any) -> Path:
    """A folder in whose store two models were asked."""
    for model in ("one", "two"):
        options = OracleOptions.read({"base_url": server.url, "price_in": 10.0, "price_out": 0.0})
        cache = tmp_path / "runs" / "artifacts" / "oracle.sqlite"
        open_oracle(f"openai:{model}", cache=cache, options=options).ask([pair_question(0), pair_question(1)])
    return tmp_path


def test_answers_are_listed_exported_and_imported(asked: Path) -> None:
    told = typed(asked)
    assert told.returncode == 0, told.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.stdout.splitlines()]
    assert rows[2][:6] == ["openai:one@127.0.0.1", "edge_pair.v1", "2", "0", "200", "20"]
    assert rows[2][-1] == "0.0020"
    assert len(rows) == 4
    done = typed(asked, "--export", "a.jsonl", "--only", "openai:two@127.0.0.1")
    assert done.stdout == "a.jsonl: 2 answers\n", done.stderr
    done = typed(asked, "--import", "a.jsonl", "--cache", "new.sqlite")
    assert done.stdout == "new.sqlite: 2 new answers, 0 were there\n", done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--cache", "nothing.sqlite"], "no such file"),
        (["--export", "a", "--only", "gpt"], "no answers of 'gpt'. Kept: openai:one@127.0.0.1, openai:two@"),
        (["--prompts"], "add --export"),
        (["--import", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--import", "a", "--export", "b"], "do not go together"),
    ],
)
def test_mistakes_are_one_line(asked: Path, words: list[str], says: str) -> None:
    done = typed(asked, *words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
