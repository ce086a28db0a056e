"""Questions to an endpoint that behaves: order, repair, fallbacks, stops, costs, and where a key goes."""

import logging
import sqlite3
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.oracle.budget import BudgetError
from recbole_llmgraph.oracle.cost import TaskCost, Usage, cost_table, spent, together
from recbole_llmgraph.oracle.estimate import estimate_table
from recbole_llmgraph.oracle.opening import open_oracle
from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.oracle.oracle import Oracle
from recbole_llmgraph.oracle.questions import Item, group_assign, group_merge, rerank_list, user_profile
from recbole_llmgraph.oracle.sitting import PROBE, InvalidAnswersError

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def opened(server: Any, tmp_path: Path) -> Any:
    """Function: options -> oracle on the test's server and cache."""

    def make(**changes: Any) -> Oracle:
        options = {"base_url": server.url, "retries": 1, **changes}
        cache = tmp_path / "c.sqlite"
        return open_oracle("openai:test-model", cache=cache, options=OracleOptions.read(options))

    return make


def test_answers_stand_in_the_order_of_their_questions(opened, pair_question) -> None:
    questions = [pair_question(user) for user in range(30)]
    answers = opened().ask(questions)
    for question, answer in zip(questions, answers, strict=True):
        assert answer.parsed == {"favourite": question.offered[0], "least": question.offered[1]}
        assert answer.raw == "::".join(question.offered[:2])
        assert (answer.status, answer.reason) == ("ok", "")
        assert (answer.usage.calls, answer.usage.tokens_in, answer.usage.tokens_out) == (1, 100, 10)
    first = answers[0].provenance
    assert first.label == "openai test-model"
    assert first.identity == "openai:test-model@127.0.0.1"
    assert (first.template, first.is_llm, first.cached) == ("edge_pair.v1", True, False)


def test_a_request_is_what_the_protocol_wants(opened, server, pair_question) -> None:
    opened(parameters={"seed": None, "top_k": 1, "max_tokens": 99}).ask([pair_question(0)])
    (body,) = server.bodies
    assert [turn["role"] for turn in body.pop("messages")] == ["system", "user"]
    assert body == {"model": "test-model", "temperature": 0, "top_k": 1, "max_tokens": 99}
    assert server.keys == [f"Bearer {KEY}"]


def test_a_schema_goes_along_when_wanted(opened, server, films) -> None:
    server.tell = lambda *_: '{"summarization": "likes war", "reasoning": "all are"}'
    (answer,) = opened(structured=True).ask([user_profile(films[:3])])
    assert answer.parsed["summarization"] == "likes war"
    shape = server.bodies[0]["response_format"]
    assert shape["json_schema"]["schema"]["required"] == ["summarization", "reasoning"]


def test_equal_questions_are_asked_once(opened, server, pair_question) -> None:
    oracle = opened()
    answers = oracle.ask([pair_question(k % 3) for k in range(30)])
    assert len(server.asked) == 3
    assert [a.parsed for a in answers] == [a.parsed for a in answers[:3]] * 10
    (row,) = oracle.costs()
    assert (row.questions, row.answers.calls, row.now.calls) == (30, 3, 3)


def test_a_rejected_answer_is_repaired_once(opened, server, pair_question) -> None:
    seen: list[list[str]] = []

    def second_is_good(offered: list[str], _: list[str]) -> str:
        seen.append(offered)
        return "nonsense <|im_end|>" if len(seen) == 1 else "::".join(offered[:2])

    server.tell = second_is_good
    oracle = opened()
    (answer,) = oracle.ask([pair_question(0)])
    assert answer.status == "repaired"
    assert answer.usage.calls == 2
    repair = server.bodies[1]["messages"]
    assert repair[:2] == server.bodies[0]["messages"]
    assert repair[2] == {"role": "assistant", "content": "nonsense ‹/im_end/›"}
    assert "it holds no line favourite::least" in repair[3]["content"]
    assert repair[3]["content"].endswith("where both are ids of two different candidates.")
    (again,) = opened().ask([pair_question(0)])
    assert len(server.asked) == 2
    assert (again.status, again.usage) == ("repaired", answer.usage)
    assert again.provenance.cached


def test_fallbacks_are_the_tasks_own_and_labelled(opened, server, films, pair_question) -> None:
    server.tell = lambda *_: "I cannot say."
    members = [Item("a", "soldier in battle"), Item("b", "kiss and wedding")]
    groups = [Item("g1", "romance", ("love", "wedding")), Item("g2", "war", ("battle",))]
    questions = [
        pair_question(0),
        user_profile(films[:3], films[4:6]),
        group_merge(groups, 1),
        group_assign(members, groups),
        rerank_list("likes war", films[:3]),
    ]
    found = {a.provenance.template: a for a in opened(min_valid=0).ask(questions)}
    assert {answer.status for answer in found.values()} == {"fallback"}
    assert all(answer.reason and answer.raw == "I cannot say." for answer in found.values())
    assert found["edge_pair.v1"].parsed is None
    assert found["user_profile.v1"].parsed["reasoning"] == "metadata"
    assert found["group_merge.v1"].parsed == {"g1": "romance", "g2": "war"}
    assert found["group_assign.v1"].parsed == {"a": "g2", "b": "g1"}
    assert found["rerank_list.v1"].parsed == {"order": [film.id for film in films[:3]]}
    assert len(server.asked) == 2 * len(questions)


def test_a_hopeless_model_is_stopped_early(opened, server, pair_question) -> None:
    server.tell = lambda *_: "Once upon a time"
    with pytest.raises(
        InvalidAnswersError, match=r"0 of \d+ answers to edge_pair.v1 are valid \(0.0%\)"
    ) as told:
        opened(concurrency=4).ask([pair_question(user) for user in range(400)])
    assert told.value.valid_rate == 0
    assert "min_valid=0" in str(told.value)
    assert len(server.asked) <= 2 * (PROBE + 8)
    asked = len(server.asked)
    with pytest.raises(InvalidAnswersError):  # known without asking again
        opened(concurrency=4).ask([pair_question(user) for user in range(15)])
    assert len(server.asked) <= asked + 4


@pytest.mark.parametrize(("bad", "stopped"), [(10, False), (11, True)])
def test_the_limit_is_exact(opened, server, pair_question, bad: int, stopped: bool) -> None:
    wrong = {pair_question(user).offered for user in range(100, 100 + 4 * bad, 4)}
    questions = [pair_question(user) for user in range(0, 400, 4)]
    server.tell = lambda offered, _: "no" if tuple(offered) in wrong else "::".join(offered[:2])
    oracle = opened()
    if stopped:
        with pytest.raises(InvalidAnswersError, match="90% are needed"):
            oracle.ask(questions)
    else:
        assert sum(answer.valid for answer in oracle.ask(questions)) == 90


def test_money_is_counted_and_stops_before_it_is_spent(opened, server, pair_question) -> None:
    questions = [pair_question(user) for user in range(60)]
    prices = {"price_in": 1000.0, "price_out": 5000.0, "concurrency": 3}
    each = 100 * 1e-3 + 10 * 5e-3  # as the server counts
    with pytest.raises(BudgetError, match=r"max_cost=5.0 US dollars: \d+ of 60 questions") as told:
        opened(max_cost=5.0, **prices).ask(questions)
    first = len(server.asked)
    assert 3.0 < first * each <= 5.0
    assert f"stopped at {first * each:.4f}" in str(told.value)
    with pytest.raises(BudgetError):  # the limit is the file's: starting again spends nothing more
        opened(max_cost=5.0, **prices).ask(questions)
    assert len(server.asked) == first
    oracle = opened(max_cost=50.0, **prices)
    assert all(answer.valid for answer in oracle.ask(questions))
    assert len(server.asked) == 60
    (row,) = oracle.costs()
    assert row.answers.money == pytest.approx(60 * each)
    assert row.now.money == pytest.approx((60 - first) * each)
    assert oracle.cache.spent() == pytest.approx(60 * each)
    table = cost_table(oracle.costs())
    assert "| edge_pair.v1 | 60 " in table.replace("  ", " ")
    assert f"{60 * each:.4f}" in table


def test_a_limit_without_prices_is_refused(opened) -> None:
    with pytest.raises(UserError, match="set price_in and price_out"):
        opened(max_cost=1.0)


def test_an_estimate_asks_nothing_and_knows_the_cache(opened, server, pair_question) -> None:
    oracle = opened(price_in=1.0, price_out=2.0)
    questions = [pair_question(user) for user in range(20)]
    oracle.ask(questions[:5])
    asked = len(server.asked)
    (row,) = oracle.estimate([*questions, questions[7]])
    assert len(server.asked) == asked
    assert (row.questions, row.kept, row.calls) == (21, 5, 15)
    assert row.money_most > row.money > 0
    # bytes of the prompts, three to a token, and some for each message
    texts = [sum(len(turn["content"].encode()) for turn in server.bodies[0]["messages"])]
    assert row.tokens_in / 15 == pytest.approx(texts[0] / 3 + 16, rel=0.05)
    assert "edge_pair.v1" in estimate_table([row])


def test_the_key_goes_nowhere_but_to_the_endpoint(
    opened, server, pair_question, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    """Servers repeat the key in their errors; neither errors, answers, logs, nor files do."""
    caplog.set_level(logging.DEBUG)
    told = ""
    for status in (401, 403, 404, 400, 429, 500):
        server.status = status, '{"error": {"message": "bad key KEY in Authorization: KEY"}}'
        oracle = opened(min_valid=0, retries=0)
        try:
            told += repr(oracle.ask([pair_question(0)]))
        except UserError as error:
            told += "".join(traceback.format_exception(error))
            assert str(status) in str(error)
        told += repr(vars(oracle)) + repr(vars(oracle.backend))
    server.status = None
    told += repr(opened().ask([pair_question(0)]))
    assert len(server.keys) == 7
    assert "[key]" in told
    out, err = capfd.readouterr()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert kept
    assert KEY not in told + out + err + caplog.text
    assert KEY.encode() not in kept


def test_refusals_end_the_run_at_once(opened, server, pair_question) -> None:
    server.status = 401, "{}"
    with pytest.raises(UserError, match="refused the key"):
        opened(concurrency=2).ask([pair_question(user) for user in range(50)])
    assert len(server.asked) <= 4


def test_an_endpoint_that_is_not_there(tmp_path: Path, pair_question) -> None:
    options = OracleOptions.read({"base_url": "http://127.0.0.1:9/v1", "retries": 0})
    oracle = open_oracle("openai:m", cache=tmp_path / "c", options=options)
    with pytest.raises(InvalidAnswersError, match=r"no answer: Connection error.*Check the endpoint"):
        oracle.ask([pair_question(0)])


def test_odd_but_whole_replies(opened, server, pair_question) -> None:
    """Half a surrogate pair, a NUL: kept and read back as they can be."""
    server.tell = lambda offered, _: "\ud800 \x00 " + "::".join(offered[:2])
    (first,) = opened().ask([pair_question(0)])
    (second,) = opened().ask([pair_question(0)])
    assert first.valid
    assert (first.raw, first.parsed) == (second.raw, second.parsed)


def test_without_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server, pair_question) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="set the environment variable OPENAI_API_KEY"):
        open_oracle("openai:gpt", cache=tmp_path / "c")
    options = OracleOptions.read({"base_url": server.url})  # a server of one's own needs none
    assert open_oracle("openai:m", cache=tmp_path / "c", options=options).ask([pair_question(0)])[0].valid


@pytest.mark.parametrize("spec", ["", "gpt-4", "openai", "openai:", "hf:", "replay:", "heuristic:x"])
def test_unknown_specifications(spec: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Known: heuristic, openai:<model>"):
        open_oracle(spec, cache=tmp_path / "c")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"min_vald": 1}, "Did you mean 'min_valid'"),
        ({"min_valid": 2}, "less than or equal to 1"),
        ({"parameters": {"messages": []}}, "'messages' is set by the suite"),
        ({"price_in": 1.0}, "price_in and price_out go together"),
    ],
)
def test_wrong_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        OracleOptions.read(options)


def test_a_password_in_the_address_is_refused_unseen(tmp_path: Path) -> None:
    options = OracleOptions.read({"base_url": "http://me:secret@host/v1"})
    with pytest.raises(UserError, match="may hold no password") as told:
        open_oracle("openai:m", cache=tmp_path / "c", options=options)
    assert "secret" not in str(told.value)


def test_identity_changes_with_what_decides(opened) -> None:
    plain = opened().identity("edge_pair")
    assert plain == opened(min_valid=0.5, timeout=1.0, concurrency=3).identity("edge_pair")
    assert plain != opened(parameters={"top_p": 0.5}).identity("edge_pair")
    assert plain != opened().identity("edge_pair", "user_profile")


def test_a_file_that_is_no_cache(tmp_path: Path, server, pair_question) -> None:
    (tmp_path / "c").write_text("not a database, but long enough to be one " * 100)
    options = OracleOptions.read({"base_url": server.url})
    with pytest.raises(UserError, match="cannot be used as a cache"):
        open_oracle("openai:m", cache=tmp_path / "c", options=options).ask([pair_question(0)])


def test_a_cache_of_the_future(tmp_path: Path, server, pair_question) -> None:
    with sqlite3.connect(tmp_path / "c") as database:
        database.execute("PRAGMA user_version = 99")
    options = OracleOptions.read({"base_url": server.url})
    with pytest.raises(UserError, match="newer version"):
        open_oracle("openai:m", cache=tmp_path / "c", options=options).ask([pair_question(0)])


def test_a_cache_that_is_deleted_is_made_anew(opened, server, pair_question, tmp_path: Path) -> None:
    """Nothing goes into a file that nobody can find again."""
    cache = tmp_path / "c.sqlite"

    def tell(offered: list[str], _: list[str]) -> str:
        if len(server.asked) == 10:
            cache.unlink()
        return "::".join(offered[:2])

    server.tell = tell
    questions = [pair_question(4 * user) for user in range(20)]
    assert all(answer.valid for answer in opened(concurrency=1).ask(questions))
    assert len(list(opened().cache.records())) >= 10


def test_what_parts_of_a_run_ask_alike_is_paid_once() -> None:
    def told(task: str, questions: int, tokens: int, money: float | None) -> dict[str, Any]:
        return {
            task: asdict(
                TaskCost(task, questions, answers=Usage(tokens_in=tokens, tokens_out=1, money=money))
            )
        }

    edges = told("pos_gen.v1", 4, 40, 0.5) | told("user_profile.v1", 4, 10, None)
    texts = told("user_profile.v1", 9, 22, 0.25)
    assert spent(together(edges, texts)) == {"tokens_in": 62, "tokens_out": 2, "money": 0.75}
    assert together(texts, edges) == together(edges, texts)
    assert spent(together({}, {})) == {}
