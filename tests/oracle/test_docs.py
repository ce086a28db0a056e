"""docs/oracle.md says what is so."""

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest

from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.oracle.questions import TASKS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "oracle.md").read_text(encoding="utf-8")


def test_every_option_stands_there_with_its_default() -> None:
    rows = dict(re.findall(r"^\| (`[\w`, ]+) \| ([^|]+) \|", PAGE, re.MULTILINE))
    told = {name: default for names, default in rows.items() for name in re.findall(r"`(\w+)`", names)}
    assert set(OracleOptions.model_fields) <= set(told)
    shown: dict[str, Any] = {
        name: str(field.default).lower() for name, field in OracleOptions.model_fields.items()
    }
    for name in ("min_valid", "concurrency", "structured", "batch", "strict"):
        assert told[name].strip() == shown[name]
    assert told["timeout"] == f"{OracleOptions().timeout:g} s, {OracleOptions().retries}"


def test_every_task_has_its_fallback() -> None:
    part = PAGE.partition("| task | fallback |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", part)) == set(TASKS)


def test_the_script_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    with contextlib.chdir(tmp_path):
        exec(compile(script, "oracle.md", "exec"), {})
    assert capsys.readouterr().out == "{'favourite': '3', 'least': '2'} ok heuristic (not an LLM)\n"
