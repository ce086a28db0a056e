"""What an oracle would cost, what it may cost, and what of it enters a key."""

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recbole_llmgraph.suite.command import run_command
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.run import Runner

HERE = Path(__file__).resolve().parent


def whole(workshop: Any, oracle: str, **changes: Any) -> Any:
    return workshop.cell("LLMPNGNN", protocol="rate", held_out=False, eval_step=0, oracle=oracle, **changes)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The oracle's test server, at `OPENAI_BASE_URL`."""
    spec = importlib.util.spec_from_file_location("made", HERE.parent / "oracle" / "conftest.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with made.Server() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


@pytest.fixture
def line(command_line: Any, house: House) -> list[str]:
    """A command that asks about 72 users; each reply is worth 100 and 10 tokens, 1.1 cents."""
    options = "oracle_options={price_in: 100, price_out: 100, concurrency: 2}"
    sets = ["--set=oracle=openai:test", f"--set={options}", "--set=eval_step=0", "--set=epochs=1"]
    return list(command_line("LLMPNGNN", house.store, *sets, "--protocol=rate"))


# -- keys ----------------------------------------------------------------------------------


def test_limits_and_prices_enter_no_key(workshop: Any, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)  # a key of a run needs no key of an endpoint
    limits = ({}, {"max_cost": 3.0, "price_in": 1, "price_out": 2}, {"min_valid": 0.5}, {"timeout": 9.0})
    told = {Runner(house).key(whole(workshop, "openai:test", oracle_options=some)) for some in limits}
    told.add(Runner(replace(house, max_cost=1.0)).key(whole(workshop, "openai:test")))
    assert len(told) == 1
    deciding = ({"base_url": "http://other/v1"}, {"structured": True}, {"parameters": {"top_p": 0.5}})
    for some in deciding:
        told.add(Runner(house).key(whole(workshop, "openai:test", oracle_options=some)))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://mine/v1")
    told.add(Runner(house).key(whole(workshop, "openai:test")))
    assert len(told) == 5


def test_a_models_files_enter_its_key(workshop: Any, house: House, tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    folder.mkdir()
    told = []
    for width in (8, 16, 8):
        (folder / "config.json").write_text(json.dumps({"hidden_size": width}))
        told.append(Runner(house).key(whole(workshop, f"hf:path:{folder}")))
    assert told[0] == told[2] != told[1]
    assert not list(house.store.rglob("*.sqlite"))


# -- before a cent is spent ----------------------------------------------------------------


def test_a_dry_run_says_what_would_be_asked(
    line: list[str], server: Any, house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("", [*line, "--dry-run", "--seeds=1,2"]) == 0
    told = capsys.readouterr().out
    row = next(row for row in told.splitlines() if "edge_pair" in row)
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[1:4] == ["144", "0", "72"]  # 72 users, two seeds; so short a history is shown whole
    assert 0 < float(cells[6]) < float(cells[7])
    assert "oracle openai test, estimated; nothing was asked" in told and "stand in for them" in told
    assert not server.asked and not house.store.exists()


def test_money_stops_a_run_and_more_money_ends_it(
    line: list[str], server: Any, house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("", [*line, "--max-cost=0.5"]) == 2
    stopped = next(row for row in capsys.readouterr().err.splitlines() if row.startswith("error: "))
    told = re.search(r"stopped at ([\d.]+) of max_cost=0.5 US dollars: (\d+) of 72 questions", stopped)
    assert told and float(told[1]) <= 0.5 and int(told[2]) == len(server.answered) > 0
    assert not list(house.store.glob("mini/LLMPNGNN/*"))
    # what was answered needs no asking; the trained stage's own candidates are counted
    assert run_command("", [*line, "--dry-run"]) == 0
    row = next(row for row in capsys.readouterr().out.splitlines() if "edge_pair" in row)
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["72", told[2], str(72 - int(told[2]))]
    assert run_command("", [*line, "--max-cost=5"]) == 0
    assert len(server.answered) == len(set(server.answered)) == 72
    assert len(list(house.store.glob("mini/LLMPNGNN/*/run.json"))) == 1
    assert run_command("", [*line, "--dry-run"]) == 0
    assert "its edges are there, nothing would be asked" in capsys.readouterr().out


def test_a_limit_that_means_nothing_is_refused_before_anything_is_trained(
    line: list[str], server: Any, house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    unpriced = [word for word in line if not word.startswith("--set=oracle_options")]
    for words, wording in (
        ([*line, "--max-cost=-1"], "--max-cost -1: expected US dollars above 0"),
        ([*unpriced, "--max-cost=1"], "max_cost needs prices"),
    ):
        assert run_command("", words) == 2
        assert wording in capsys.readouterr().err
    assert not server.asked and not list(house.store.rglob("run.json"))


# -- a model that cannot answer ------------------------------------------------------------


def test_a_model_that_cannot_answer_is_caught(
    line: list[str], house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real language model of three million weights, trained on stories."""
    beside = HERE.parents[2] / "shared" / "lm"
    folder = Path(os.environ.get("RECBOLE_LLMGRAPH_LM", beside)) / "stories3M-q80" / "hf"
    if not folder.is_dir():
        pytest.skip("no checkpoint; set RECBOLE_LLMGRAPH_LM to a folder with stories3M-q80")
    words = [word for word in line if not word.startswith("--set=oracle")]
    assert run_command("", [*words, f"--set=oracle=hf:path:{folder}"]) == 2
    told = next(row for row in capsys.readouterr().err.splitlines() if row.startswith("error: "))
    assert re.search(r"hf stories3M.*: 0 of \d+ answers to edge_pair.v1 are valid \(0.0%\), 90% are", told)
    assert not list(house.store.glob("mini/LLMPNGNN/*/run.json"))
