"""docs/extend.md, run as it stands there."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from recbole_llmgraph.store.runs import read_run
from recbole_llmgraph.suite.command import run_command

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    """The fenced text under the line that names a file."""
    (found,) = re.findall(rf"^`{re.escape(name)}`.*?^```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def command(model: str) -> list[str]:
    """Arguments of the page's command that runs a model."""
    (line,) = [
        line for line in PAGE.splitlines() if line.startswith("python benchmarks/run.py --model " + model)
    ]
    return shlex.split(line)[2:]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of a user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_models", raising=False)  # another test's, from another folder
    return tmp_path


@pytest.mark.parametrize("name", ["my_models.py", "shop.yaml", "make_shop.py"])
def test_each_piece_is_under_forty_lines(name: str) -> None:
    assert len(block(name).splitlines()) < 40


def test_the_model_runs(here: Path, miniature: object) -> None:
    (here / "my_models.py").write_text(block("my_models.py"), encoding="utf-8")
    line = command("my_models:PopularMF")
    line[line.index("ml-100k")] = str(miniature.card_path)  # type: ignore[attr-defined]
    given = ["--data", str(miniature.data), "--source", str(miniature.source)]  # type: ignore[attr-defined]
    assert run_command("", [*line, *given]) == 0
    (folder,) = (here / "runs" / "mini" / "PopularMF").iterdir()
    assert read_run(folder).settings["width"] == 64


def test_the_dataset_runs(here: Path) -> None:
    (here / "shop.yaml").write_text(block("shop.yaml"), encoding="utf-8")
    exec(compile(block("make_shop.py"), "make_shop.py", "exec"), {})
    line = command("LightGCN,HeLLM")
    line[line.index("LightGCN,HeLLM")] = "LightGCN"
    assert run_command("", [*line, "--set", "epochs=2", "--set", "eval_step=1"]) == 0
    (folder,) = (here / "runs" / "shop" / "LightGCN").iterdir()
    assert read_run(folder).test_users == 120
