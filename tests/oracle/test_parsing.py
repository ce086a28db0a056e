"""Parsers and checks: what is taken, what is refused, and that nothing else can happen."""

import json
import string
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recbole_llmgraph.oracle.checks import check
from recbole_llmgraph.oracle.parsing import RejectedError, first_json, plain
from recbole_llmgraph.oracle.questions import (
    TASKS,
    Item,
    Question,
    edge_pair,
    group_assign,
    group_merge,
    group_propose,
    item_profile,
    neg_gen,
    pos_gen,
    rerank_list,
    rerank_point,
    user_profile,
)

A, B, C, D = (Item(name, f"item {name}") for name in ("12", "15", "B0-x", "7"))
PAIR = edge_pair([D], [A, B, C])
QUESTIONS: dict[str, Question] = {
    "edge_pair": PAIR,
    "item_profile": item_profile(A),
    "user_profile": user_profile([A], [B]),
    "pos_gen": pos_gen("likes films", [A, B, C], 2, liked=[D]),
    "neg_gen": neg_gen("likes films", [A, B, C], 2, liked=[D]),
    "group_propose": group_propose([A, B, C], 2),
    "group_merge": group_merge([Item("g1", "war"), Item("g2", "wars"), Item("g3", "love")], 2),
    "group_assign": group_assign([A, B], [Item("g1", "war"), Item("g2", "love")]),
    "rerank_point": rerank_point("likes films", A, liked=[D]),
    "rerank_list": rerank_list("likes films", [A, B, C], liked=[D]),
}
GROUP = {"name": "war", "characteristics": ["a"], "reasoning": "r", "members": [12, "15"]}

TAKEN: list[tuple[str, str, Any]] = [
    ("edge_pair", "12::15", {"favourite": "12", "least": "15"}),
    ("edge_pair", " [12] :: [15].\n", {"favourite": "12", "least": "15"}),
    ("edge_pair", "```\n12::B0-x\n```", {"favourite": "12", "least": "B0-x"}),
    ("edge_pair", "favourite::least\n12::15", {"favourite": "12", "least": "15"}),
    ("edge_pair", "**12::15**", {"favourite": "12", "least": "15"}),
    ("edge_pair", "My answer: 12::15", {"favourite": "12", "least": "15"}),
    ("edge_pair", "<think>12::7? no</think>12::15", {"favourite": "12", "least": "15"}),
    ("edge_pair", '{"favourite": 12, "least": "[15]"}', {"favourite": "12", "least": "15"}),
    (
        "user_profile",
        'Sure!\n```json\n{"summarization": "likes\\nfilms", "reasoning": "all are"}\n```',
        {"summarization": "likes films", "reasoning": "all are"},
    ),
    ("pos_gen", '{"items": [15, "12"], "reasoning": "x"}', {"items": ["15", "12"], "reasoning": "x"}),
    ("neg_gen", '{"items": ["12"]} and more', {"items": ["12"], "reasoning": ""}),
    ("group_propose", json.dumps({"groups": [GROUP]}), {"groups": [{**GROUP, "members": ["12", "15"]}]}),
    ("group_propose", json.dumps([GROUP]), {"groups": [{**GROUP, "members": ["12", "15"]}]}),
    ("group_merge", '{"g1": "war", "g2": "war", "g3": "love"}', {"g1": "war", "g2": "war", "g3": "love"}),
    ("group_assign", '{"12": "g1", "15": "[g2]"}', {"12": "g1", "15": "g2"}),
    ("rerank_point", "Yes.", {"yes": True, "score": 1.0}),
    ("rerank_point", "no", {"yes": False, "score": 0.0}),
    ("rerank_point", '{"answer": "yes", "p_yes": 0.75, "mass": 0.9}', {"yes": True, "score": 0.75}),
    ("rerank_list", '{"order": ["15", 12, "B0-x"]}', {"order": ["15", "12", "B0-x"]}),
    ("rerank_list", "15 > B0-x > 12", {"order": ["15", "B0-x", "12"]}),
    ("rerank_list", "[15] > [B0-x] > [12]", {"order": ["15", "B0-x", "12"]}),
]  # fmt: skip

REFUSED: list[tuple[str, str]] = [
    *(("edge_pair", text) for text in (
        "", "12", "12::7", "12::12", "12::99", "99::12", "12::15 or 15::12", "x::12::15", "12::15::B0-x",
        "é12::15", "12::15é", "112::15", "12::155", "12::15.5", "1 2::15", "favourite::least", "12 :: ",
        '{"favourite": 12}', '{"favourite": 12, "least": 12}', '{"favourite": true, "least": 15}',
        '{"favourite": 12.0, "least": 15}', "<think>12::15", "12:15",
    )),
    *(("user_profile", text) for text in (
        "likes films", "{}", '{"summarization": "x"}', '{"summarization": 3, "reasoning": "x"}',
        '{"summarization": " ", "reasoning": "x"}', '{"summarization": "x", "reasoning": "x"',
        json.dumps({"summarization": "word " * 101, "reasoning": "x"}),
        '{"summarization": "x", "summarization": "y", "reasoning": "z"}',
    )),
    *(("pos_gen", text) for text in (
        '{"items": []}', '{"items": [12, 12]}', '{"items": [12, 15, "B0-x"]}', '{"items": [7]}',
        '{"items": [99]}', '{"items": "12"}', '{"items": [[12]]}', '{"items": [NaN]}', "[12]",
    )),
    ("group_propose", json.dumps([GROUP, GROUP])),
    ("group_propose", json.dumps([{**GROUP, "members": [99]}])),
    ("group_propose", json.dumps([{**GROUP, "members": [12, 12]}])),
    ("group_propose", json.dumps([{**GROUP, "name": ""}])),
    ("group_propose", json.dumps([{**GROUP, "name": str(k)} for k in range(3)])),
    ("group_propose", "[]"),
    ("group_merge", '{"g1": "war", "g2": "war"}'),
    ("group_merge", '{"g1": "a", "g2": "b", "g3": "c"}'),
    ("group_merge", '{"g1": "a", "g2": "a", "g3": "a", "g4": "a"}'),
    ("group_merge", '{"g1": "a", "g2": "a", "g3": 3}'),
    ("group_assign", '{"12": "g1"}'),
    ("group_assign", '{"12": "g1", "15": "g9"}'),
    ("group_assign", '{"12": "g1", "15": "g1", "7": "g1"}'),
    ("group_assign", '{"12": "g1", "12": "g2", "15": "g1"}'),
    ("rerank_point", "yes and no"),
    ("rerank_point", "maybe"),
    ("rerank_point", '{"answer": "yes", "p_yes": 0.9, "mass": 0.01}'),
    ("rerank_point", '{"answer": "yes", "p_yes": 2}'),
    ("rerank_list", '{"order": ["15", "12"]}'),
    ("rerank_list", '{"order": ["15", "12", "12"]}'),
    ("rerank_list", '{"order": ["15", "12", "B0-x", "7"]}'),
    ("rerank_list", "the order is 15 > B0-x > 12"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "text", "wanted"), TAKEN)
def test_taken(task: str, text: str, wanted: Any) -> None:
    assert check(QUESTIONS[task], text) == wanted


@pytest.mark.parametrize(("task", "text"), REFUSED)
def test_refused(task: str, text: str) -> None:
    with pytest.raises(RejectedError) as caught:
        check(QUESTIONS[task], text)
    assert str(caught.value)


def names_in(parsed: Any) -> set[str]:
    """Every id that an answer names."""
    if isinstance(parsed, dict):
        lists = [parsed.get(key, []) for key in ("items", "order", "members")]
        lists += [g["members"] for g in parsed.get("groups", [])]
        return {parsed[k] for k in ("favourite", "least") if k in parsed} | {n for one in lists for n in one}
    return set()


fragments = st.sampled_from(
    ["12", "15", "B0-x", "7", "99", "::", "[", "]", "{", "}", '"', ",", ":", "\n", " ", "```", "yes", "no"]
    + ['"items"', '"order"', '"groups"', '"favourite"', '"least"', '"members"', '"g1"', "null", "1e5", ">"]
)
loose = st.one_of(st.text(max_size=60), st.lists(fragments, max_size=25).map("".join))


@settings(deadline=None)  # the machine may be busy
@given(st.sampled_from(TASKS), loose)
@example("edge_pair", "[" * 20_000)
@example("group_propose", "[" * 20_000)
@example("pos_gen", '{"items":' * 3_000)
@example("rerank_list", "9" * 30_000)
@example("edge_pair", "9" * 20_000 + "::")
@example("edge_pair", "1" + " " * 20_000 + ":")
@example("pos_gen", '{"items": [' + "1" * 5_000 + "]}")
@example("rerank_point", '{"answer": "yes", "p_yes": 1e999, "mass": 1}')
def test_anything_is_taken_or_refused_and_never_names_what_was_not_offered(task: str, text: str) -> None:
    question = QUESTIONS[task]
    started = time.process_time()
    try:
        parsed = check(question, text)
    except RejectedError:
        assert time.process_time() - started < 0.5
        return
    assert names_in(parsed) <= set(question.offered)
    json.dumps(parsed, allow_nan=False)


ids = st.text(string.ascii_letters + string.digits + "_-.", min_size=1, max_size=6).filter(
    lambda name: not name.endswith(".") and name not in ("favourite", "least")
)


@settings(deadline=None)
@given(st.lists(ids, min_size=2, max_size=8, unique=True), st.data())
def test_a_pair_is_read_back_for_any_ids(names: list[str], data: st.DataObject) -> None:
    question = edge_pair([], [Item(name, name) for name in names])
    favourite, least = data.draw(st.permutations(names))[:2]
    wanted = {"favourite": favourite, "least": least}
    assert check(question, f"{favourite}::{least}") == wanted
    assert check(question, f"Answer: [{favourite}]::[{least}].\n") == wanted
    assert check(question, json.dumps(wanted)) == wanted


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=4), json_values, max_size=4), st.text("abc .:,", max_size=20))
def test_the_first_object_in_prose_is_found(value: dict[str, Any], prose: str) -> None:
    assert first_json(f"{prose}{json.dumps(value)}{prose}", dict) == value


def test_fences_and_thoughts_fall_off() -> None:
    assert plain("<think>a</think>\n```json\n{}\n```\n") == "{}"
    with pytest.raises(RejectedError, match="empty"):
        plain("```\n```")
