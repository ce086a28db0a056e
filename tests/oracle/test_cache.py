"""The shared file: what was answered is there, whole, for everybody; exported, imported and replayed."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.oracle.backend import Call, Reply
from recbole_llmgraph.oracle.cache import ReplyCache
from recbole_llmgraph.oracle.cost import Usage
from recbole_llmgraph.oracle.opening import open_oracle
from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.oracle.oracle import Oracle
from recbole_llmgraph.oracle.questions import Question
from recbole_llmgraph.oracle.sitting import InvalidAnswersError

COUNT = 12


@pytest.fixture
def questions(pair_question: Any) -> list[Question]:
    return [pair_question(4 * user) for user in range(COUNT)]


@pytest.fixture
def recorded(server: Any, tmp_path: Path, questions: list[Question]) -> Oracle:
    """An oracle that was asked: the third answer was repaired, the fourth never became valid."""
    wrong = {questions[2].offered: 1, questions[3].offered: 2}

    def tell(offered: list[str], _: list[str]) -> str:
        left = wrong.get(tuple(offered), 0)
        wrong[tuple(offered)] = left - 1
        return "no" if left > 0 else "::".join(offered[:2])

    server.tell = tell
    values = {"base_url": server.url, "min_valid": 0, "price_in": 10.0, "price_out": 10.0}
    oracle = open_oracle("openai:m", cache=tmp_path / "c.sqlite", options=OracleOptions.read(values))
    statuses = [answer.status for answer in oracle.ask(questions)]
    assert statuses == ["ok", "ok", "repaired", "fallback"] + ["ok"] * (COUNT - 4)
    return oracle


def replay(path: Path, **options: Any) -> Oracle:
    read = OracleOptions.read({"min_valid": 0, **options})
    return open_oracle(f"replay:{path}", cache=path.with_suffix(".none"), options=read)


def test_replayed_answers_are_the_recorded_ones(recorded, questions, server, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    assert recorded.cache.export(file) == COUNT + 2
    asked, first = len(server.asked), recorded.ask(questions)
    oracle = replay(file)
    again = oracle.ask(questions)
    assert len(server.asked) == asked
    for one, other in zip(first, again, strict=True):
        assert (one.parsed, one.raw, one.status) == (other.parsed, other.raw, other.status)
        assert (one.reason, one.usage) == (other.reason, other.usage)
        assert other.provenance.label == "replay of openai:m@127.0.0.1"
        assert other.provenance.is_llm
        assert other.provenance.cached
    (row,) = oracle.costs()
    assert row.answers == recorded.costs()[0].answers
    assert (row.now.calls, row.now.money) == (0, None)
    assert not file.with_suffix(".none").exists()


def test_export_is_text_of_models_alone_unless_prompts_are_wanted(recorded, tmp_path: Path) -> None:
    recorded.cache.export(tmp_path / "bare")
    recorded.cache.export(tmp_path / "full", prompts=True)
    bare, full = ((tmp_path / name).read_text() for name in ("bare", "full"))
    assert "soldier" not in bare
    assert "soldier" in full
    assert "[" not in bare
    stripped = [{k: v for k, v in json.loads(line).items() if k != "messages"} for line in full.splitlines()]
    assert stripped == [json.loads(line) for line in bare.splitlines()]


def test_equal_contents_are_exported_as_equal_bytes(recorded, tmp_path: Path) -> None:
    recorded.cache.export(tmp_path / "one", prompts=True)
    lines = (tmp_path / "one").read_text().splitlines(keepends=True)
    (tmp_path / "mixed").write_text("".join(reversed(lines)))
    other = ReplyCache(tmp_path / "other.sqlite")
    assert other.load(tmp_path / "mixed") == (COUNT + 2, 0)
    assert other.load(tmp_path / "one") == (0, COUNT + 2)
    other.export(tmp_path / "two", prompts=True)
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()


@pytest.mark.parametrize("prompts", [False, True])
def test_imported_answers_cost_no_calls_and_no_money_here(
    recorded, questions, server, tmp_path: Path, prompts: bool
) -> None:
    recorded.cache.export(tmp_path / "answers", prompts=prompts)
    asked = len(server.asked)
    cache = ReplyCache(tmp_path / "mine.sqlite")
    assert cache.load(tmp_path / "answers") == (COUNT + 2, 0)
    mine = Oracle(recorded.backend, cache, recorded.options)
    assert [a.parsed for a in mine.ask(questions)] == [a.parsed for a in recorded.ask(questions)]
    assert len(server.asked) == asked
    assert cache.spent() == 0
    assert mine.costs()[0].answers.money == recorded.cache.spent() > 0


def test_a_gap_is_an_error_or_a_missing_answer(recorded, questions, pair_question, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    recorded.cache.export(file)
    more = [*questions, pair_question(4 * COUNT)]
    with pytest.raises(UserError, match=r"no answer to this edge_pair.v1 question about user 48.*strict"):
        replay(file).ask(more)
    answers = replay(file, strict=False).ask(more)
    assert answers[-1].status == "missing"
    assert answers[-1].parsed is None
    assert answers[0].valid
    with pytest.raises(InvalidAnswersError):
        replay(file, strict=False, min_valid=0.9).ask(more)


def test_answers_of_two_models_are_not_mixed(recorded, questions, server, tmp_path: Path) -> None:
    options = OracleOptions.read({"base_url": server.url, "min_valid": 0})
    cache = recorded.cache
    open_oracle("openai:other", cache=cache.path, options=options).ask(questions)
    cache.export(tmp_path / "both")
    with pytest.raises(UserError, match="answers of two models, openai:"):
        replay(tmp_path / "both")
    count = cache.export(tmp_path / "one", model="openai:other@127.0.0.1")
    assert count == COUNT
    assert all(answer.valid for answer in replay(tmp_path / "one").ask(questions))


def test_a_replay_s_identity_is_its_content(recorded, questions, tmp_path: Path) -> None:
    recorded.cache.export(tmp_path / "a")
    recorded.cache.export(tmp_path / "b")
    assert replay(tmp_path / "a").identity("edge_pair") == replay(tmp_path / "b").identity("edge_pair")
    lines = (tmp_path / "b").read_text().splitlines(keepends=True)
    (tmp_path / "b").write_text("".join(lines[:-1]))
    assert replay(tmp_path / "a").identity("edge_pair") != replay(tmp_path / "b").identity("edge_pair")


def test_an_edited_answer_is_checked_like_any_other(recorded, questions, tmp_path: Path) -> None:
    file = tmp_path / "a"
    recorded.cache.export(file)
    text = file.read_text()
    pair = "::".join(questions[0].offered[:2])
    assert pair in text
    file.write_text(text.replace(pair, f"{questions[0].offered[0]}::666"))
    answers = replay(file, strict=False).ask(questions)
    assert (answers[0].status, answers[0].parsed) == ("missing", None)  # its repair was never recorded
    assert answers[1].valid


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", r"answers:2: no recorded answer"),
        ("[]", r"answers:2: no recorded answer"),
        ('{"task": "edge_pair"}', r"answers:2: no recorded answer \(prompt: Field required\)"),
        ('{"prompt": "x", "task": "x", "version": 1, "model": "m", "decoding": {}, "reply": ""}', "task"),
    ],
)
def test_a_line_that_is_no_answer(recorded, tmp_path: Path, line: str, says: str) -> None:
    file = tmp_path / "answers"
    recorded.cache.export(file)
    good = file.read_text().splitlines()[0]
    file.write_text(f"{good}\n{line}\n")
    cache = ReplyCache(tmp_path / "new.sqlite")
    with pytest.raises(UserError, match=says):
        cache.load(file)
    with pytest.raises(UserError, match=says):
        replay(file)
    assert list(cache.records()) == []  # all or nothing


def test_a_conversation_that_was_changed_is_refused(recorded, tmp_path: Path) -> None:
    file = tmp_path / "answers"
    recorded.cache.export(file, prompts=True)
    file.write_text(file.read_text().replace("soldier", "general"))
    with pytest.raises(UserError, match="does not match its hash"):
        ReplyCache(tmp_path / "new.sqlite").load(file)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        replay(tmp_path / "none")
    with pytest.raises(UserError, match="no such file"):
        ReplyCache(tmp_path / "none").export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


WRITER = """
import importlib.util, sys
from pathlib import Path
from recbole_llmgraph.oracle.backend import Call, Reply
from recbole_llmgraph.oracle.cache import ReplyCache
from recbole_llmgraph.oracle.cost import Usage

conftest, path, name, count = sys.argv[1:]
spec = importlib.util.spec_from_file_location("made", conftest)
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)

class Known:
    identity, decoding = "known:" + name, {}

for number in range(int(count)):
    call = Call.first(number, made.make_pair(number))
    ReplyCache(Path(path)).put(Known(), [(call, Reply(f"{name} {number}", Usage(calls=1, money=0.5)))])
    print(number, flush=True)
"""


def start_writer(path: Path, name: str, count: int) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", WRITER, Path(__file__).with_name("conftest.py"), path, name, count]
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        [str(word) for word in words], env={"PYTHONPATH": root}, stdout=subprocess.PIPE, text=True
    )


def kept(path: Path, name: str) -> set[str]:
    with sqlite3.connect(path, timeout=30) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = database.execute("SELECT reply FROM replies WHERE model = ?", (f"known:{name}",))
        return {row[0] for row in rows}


def test_a_killed_writer_loses_nothing_that_it_was_told_is_kept(tmp_path: Path) -> None:
    """Two writers on one file, one of them killed in the middle of its work; the other ends."""
    path = tmp_path / "c.sqlite"
    victim, other = start_writer(path, "victim", 10_000), start_writer(path, "other", 60)
    told: list[str] = []
    assert victim.stdout is not None
    for line in victim.stdout:
        told.append(f"victim {line.strip()}")
        if len(told) == 40:
            time.sleep(0.003)
            victim.send_signal(signal.SIGKILL)
            break
    told += [f"victim {line}" for line in victim.stdout.read().split()]
    victim.wait(timeout=20)
    other.communicate(timeout=300)
    assert other.returncode == 0
    assert set(told) <= kept(path, "victim")
    assert kept(path, "other") == {f"other {number}" for number in range(60)}


def test_of_two_that_ask_the_same_the_first_answer_counts(recorded, questions) -> None:
    call = Call.first(0, questions[0])
    kept_before = recorded.ask(questions)[0].raw
    (counts,) = recorded.cache.put(recorded.backend, [(call, Reply("late", Usage(1)))])
    assert counts.text == kept_before
