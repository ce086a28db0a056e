"""GAL-Rec's six views, read back from the tokens written, against neighbours looked up in dictionaries."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.graph.neighbours import mix_keys
from recbole_llmgraph.lm.builtin import build_tokenizer
from recbole_llmgraph.model.galrec_views import Caps, Pairs, Reading, Views

TOKENIZER = build_tokenizer(["User interacted with items. Which item will the user choose next?"])
USERS, ITEMS = 9, 11
ALL = ["u0", "u1", "u2", "i0", "i1", "i2"]
CAPS = Caps(items=4, users=3, per_neighbour=2, second=40)

Edges = list[tuple[int, int]]


def views_of(edges: Edges, caps: Caps = CAPS, hops: int = 2, wording: str = "sentences") -> Views:
    pairs = torch.tensor(edges, dtype=torch.long).view(-1, 2)
    return Views(pairs[:, 0], pairs[:, 1], (USERS, ITEMS), TOKENIZER, caps, hops, wording)


def rows_of(rows: list[tuple[int, list[int], int]], seed: int = 0) -> Pairs:
    """Rows from users, histories and targets; keys as the model makes them."""
    longest = max((len(history) for _, history, _ in rows), default=0) + 2
    users = torch.tensor([user for user, _, _ in rows], dtype=torch.long)
    history = torch.zeros(len(rows), longest, dtype=torch.long)
    for line, (_, items, _) in enumerate(rows):
        history[line, : len(items)] = torch.tensor(items)
    lengths = torch.tensor([len(items) for _, items, _ in rows])
    targets = torch.tensor([target for _, _, target in rows])
    return Pairs(users, history, lengths, targets, mix_keys(seed, 0, users, lengths))


def meaning(views: Views, reading: Reading) -> list[str | tuple[str, int]]:
    """What every row of the table stands for: a word piece, or who is named."""
    named = [("item", item) for item in reading.items.tolist()]
    named += [("user", user) for user in reading.users.tolist()]
    named += [("owner", user) for pairs in reading.owners for user in pairs.users.tolist()]
    return ["", *TOKENIZER.convert_ids_to_tokens(views.text.tolist()), *named]


def told(views: Views, reading: Reading, job: int = 0) -> list[list[str | tuple[str, int]]]:
    """Prompts of one job, in the order they were asked for."""
    stands, packed = meaning(views, reading), reading.packs[job]
    lines = [row for part in packed.by_length(packed.rows) for row in part.tolist()]
    prompts: list[Any] = [None] * len(lines)
    for number, line in zip(packed.order.tolist(), lines, strict=True):
        prompts[number] = [stands[row] for row in line]
    return prompts


def shown(prompt: list[str | tuple[str, int]]) -> list[Any]:
    """A prompt as texts and lists of names."""
    found: list[Any] = []
    for part in prompt:
        kind = str if isinstance(part, str) else list
        if not found or not isinstance(found[-1], kind):
            found.append(kind())
        found[-1] += part if isinstance(part, str) else [part]
    return [part.replace("Ġ", " ").strip() if isinstance(part, str) else part for part in found]


def names(ids: list[int], kind: str) -> list[tuple[str, int]]:
    return [(kind, number) for number in ids]


def drawn(views: Views, pairs: Pairs, wanted: list[Any]) -> list[dict[str, dict[str, list[int]]]]:
    """For each row, ids in the slots of each view."""
    found = views.neighbours(pairs, wanted)
    return [
        {
            view: {slot: ids[row, : counts[row]].tolist() for slot, (ids, counts) in fillings.items()}
            for view, fillings in found.items()
        }
        for row in range(len(pairs.users))
    ]


class Reference:
    """Who is whose neighbour once the pair's own edge is gone."""

    def __init__(self, edges: Edges, user: int, target: int) -> None:
        kept = [edge for edge in edges if edge != (user, target)]
        self.items_of = {u: {i for v, i in kept if v == u} for u in range(USERS)}
        self.users_of = {i: {u for u, j in kept if j == i} for i in range(ITEMS)}


def check_second(
    found: list[int], firsts: list[int], around: dict[int, set[int]], own: int, caps: Caps
) -> None:
    """Second-order neighbours: true ones, each once, never the one whose view it is; enough of each first."""
    allowed = set().union(*(around[first] for first in firsts)) - {own}
    assert len(set(found)) == len(found) <= caps.second
    assert set(found) <= allowed
    if len(found) < caps.second:
        for first in firsts:
            theirs = around[first] - {own}
            assert len(theirs & set(found)) >= min(caps.per_neighbour, len(theirs))
        assert len(found) <= caps.per_neighbour * len(set(firsts))
    else:
        assert len(found) == caps.second


@st.composite
def graphs(draw: Any) -> tuple[Edges, list[tuple[int, list[int], int]]]:
    """Training edges, and rows: some histories hold their target, some targets are training edges."""
    edge = st.tuples(st.integers(1, USERS - 1), st.integers(1, ITEMS - 1))
    edges = draw(st.lists(edge, min_size=1, max_size=40))
    item = st.integers(1, ITEMS - 1)
    row = st.tuples(st.integers(1, USERS - 1), st.lists(item, min_size=1, max_size=7), item)
    known = st.sampled_from(edges).flatmap(
        lambda pair: st.tuples(st.just(pair[0]), st.lists(item, min_size=1, max_size=7), st.just(pair[1]))
    )
    return edges, draw(st.lists(row | known, min_size=1, max_size=5))


@settings(max_examples=100, deadline=None)
@given(
    graphs(), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(1, 9), st.integers(0, 99)
)
def test_neighbours_are_admissible(graph, items, users, per, second, seed) -> None:
    edges, rows = graph
    caps = Caps(items, users, per, second)
    found = drawn(views_of(edges, caps, hops=3), rows_of(rows, seed), ALL)
    for (user, history, target), slots in zip(rows, found, strict=True):
        known = Reference(edges, user, target)
        near = [item for item in history if item != target][-items:]
        assert slots["u0"] == slots["i0"] == {}
        assert slots["u1"] == {"near": near}
        assert slots["u2"]["near"] == near
        check_second(slots["u2"]["far"], near, known.users_of, user, caps)
        others = Reference(edges, 0, 0)  # the other users' own edges are all there
        check_second(slots["u2"]["further"], slots["u2"]["far"], others.items_of, 0, caps)
        near_users = slots["i1"]["near"]
        assert slots["i2"]["near"] == near_users
        assert len(set(near_users)) == len(near_users) == min(users, len(known.users_of[target]))
        assert set(near_users) <= known.users_of[target] - {user}
        check_second(slots["i2"]["far"], near_users, known.items_of, target, caps)


@settings(max_examples=40, deadline=None)
@given(graphs(), st.sampled_from([1, 2, 3]), st.integers(0, 99))
def test_prompts_name_the_pair_once_each_in_its_own_view(graph, hops, seed) -> None:
    """A user's view never names her, nor the target but as an item of other users; an item's neither."""
    edges, rows = graph
    views = views_of(edges, hops=hops)
    prompts = told(views, views.read([(rows_of(rows, seed), ALL)]))
    for place, view in enumerate(ALL):
        for line, (user, _, target) in enumerate(rows):
            prompt = prompts[place * len(rows) + line]
            if view[0] == "u":
                assert prompt.count(("owner", user)) == 1 and ("user", user) not in prompt
                if hops < 3 or view != "u2":
                    assert ("item", target) not in prompt
            else:
                assert prompt.count(("item", target)) == 1
                assert not any(part in prompt for part in (("owner", user), ("user", user)))


@settings(max_examples=40, deadline=None)
@given(graphs(), st.data())
def test_a_rows_prompts_depend_on_the_row_alone(graph, data) -> None:
    """Not on the other rows, their order, the other views or the padding of histories."""
    edges, rows = graph
    views = views_of(edges, hops=3)
    whole = drawn(views, rows_of(rows), ALL)
    order = data.draw(st.permutations(range(len(rows))))
    shuffled = rows_of([rows[number] for number in order])
    wanted = data.draw(st.lists(st.sampled_from(ALL), min_size=1, unique=True))
    wide = replace(shuffled, history=torch.nn.functional.pad(shuffled.history, (0, 5)))
    for found in (drawn(views, shuffled, wanted), drawn(views, wide, wanted)):
        expected = [{view: whole[number][view] for view in wanted} for number in order]
        assert [dict(sorted(row.items())) for row in found] == [dict(sorted(row.items())) for row in expected]


def test_passes_of_one_step_share_a_table_and_name_the_same_neighbours() -> None:
    """A row's u2 is the same prompt in the pass of all rows and in the pass of some."""
    edges = [(u, i) for u in range(1, USERS) for i in range(1, ITEMS) if (u * i) % 3]
    views = views_of(edges, replace(CAPS, second=4))
    pairs = rows_of([(1, [2, 4, 5], 7), (2, [1, 5], 8), (3, [4, 7, 2, 8], 5)])
    some = pairs.at(torch.tensor([2, 0]))
    reading = views.read([(pairs, ["u2"]), (some, ["i1", "u2"])])
    first, second = told(views, reading, 0), told(views, reading, 1)
    assert [first[2], first[0]] == second[2:]
    assert reading.items.tolist() == sorted(set(reading.items.tolist()))


# ---- wording


FULL = [(u, i) for u in range(1, 5) for i in range(1, 7)]
#: So many of each neighbour that all are named.
WIDE = replace(CAPS, per_neighbour=8)


def wrote(hops: int, wording: str) -> tuple[dict[str, list[Any]], dict[str, dict[str, list[int]]]]:
    views, pairs = views_of(FULL, WIDE, hops, wording), rows_of([(2, [6, 5, 1, 3, 4], 1)])
    prompts = told(views, views.read([(pairs, ALL)]))
    assert all(prompt[-1] == "</s>" for prompt in prompts)
    return dict(zip(ALL, (shown(prompt[:-1]) for prompt in prompts), strict=True)), drawn(views, pairs, ALL)[
        0
    ]


def test_sentences_of_two_hops() -> None:
    prompts, ids = wrote(2, "sentences")
    owner, target = [("owner", 2)], [("item", 1)]
    assert prompts["u0"] == ["User", owner]
    history = names([6, 5, 3, 4], "item")  # oldest first, without the target
    assert prompts["u1"] == ["User", owner, "interacted with items", history]
    far = names(ids["u2"]["far"], "user")
    question = "interacted with the same items. Which item will the user choose next?"
    assert prompts["u2"] == [*prompts["u1"], ". Users", far, question]
    assert sorted(far) == names([1, 3, 4], "user")
    near = names(ids["i1"]["near"], "user")
    assert sorted(near) == names([1, 3, 4], "user")
    assert prompts["i0"] == ["Item", target]
    assert prompts["i1"] == ["Item", target, "was chosen by users", near]
    items = names(ids["i2"]["far"], "item")
    assert prompts["i2"] == [*prompts["i1"], ". The users interacted with items", items]


def test_one_hop_leaves_out_the_second_and_still_asks() -> None:
    prompts, ids = wrote(1, "sentences")
    assert prompts["u2"] == [*prompts["u1"], ". Which item will the user choose next?"]
    assert set(ids["u2"]) == {"near"}


def test_three_hops_add_the_items_of_those_users() -> None:
    two, _ = wrote(2, "sentences")
    prompts, ids = wrote(3, "sentences")
    further = names(ids["u2"]["further"], "item")
    said = [*two["u2"][:-1], "interacted with the same items. They also interacted with items", further]
    assert prompts["u2"] == [*said, ". Which item will the user choose next?"]
    assert further
    assert {view: prompts[view] for view in ("u0", "u1", "i0", "i1", "i2")} == {
        view: two[view] for view in ("u0", "u1", "i0", "i1", "i2")
    }


def test_marks_say_the_same_in_one_letter_each() -> None:
    prompts, ids = wrote(3, "marks")
    history = names([6, 5, 3, 4], "item")
    far, further = names(ids["u2"]["far"], "user"), names(ids["u2"]["further"], "item")
    assert prompts["u2"] == ["u", [("owner", 2)], "i", history, "u", far, "i", further, "?"]
    near, items = names(ids["i2"]["near"], "user"), names(ids["i2"]["far"], "item")
    assert prompts["i2"] == ["i", [("item", 1)], "u", near, "i", items]


def test_a_row_without_any_neighbour_is_still_a_prompt() -> None:
    """All of its history is the target, and nobody else met it."""
    views = views_of([(1, 5)], hops=3)
    prompts = told(views, views.read([(rows_of([(1, [5, 5], 5)]), ALL)]))
    assert [part for prompt in prompts for part in prompt if not isinstance(part, str)] == [
        *[("owner", 1)] * 3,
        *[("item", 5)] * 3,
    ]


def test_an_unknown_target_excludes_nothing_but_the_user() -> None:
    """Scoring: no target yet, the whole history is read, and she is not named among her items' users."""
    views, rows = views_of(FULL, WIDE), [(2, [1, 3], 0)]
    (found,) = drawn(views, rows_of(rows), ["u2"])
    assert found["u2"]["near"] == [1, 3]
    assert sorted(found["u2"]["far"]) == [1, 3, 4]


# ---- length


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_the_longest_prompt_is_as_long_as_the_check_says(hops: int) -> None:
    """With a dense graph every cap is met; one token less is refused, naming what to change."""
    edges = [(u, i) for u in range(1, USERS) for i in range(1, ITEMS)]
    views = views_of(edges, Caps(items=4, users=4, per_neighbour=3, second=5), hops)
    reading = views.read([(rows_of([(1, list(range(2, 9)), 1)]), ALL)])
    longest = max(length for _, length in reading.packs[0].groups)
    views.check(longest)
    with pytest.raises(
        UserError, match=rf"max_length={longest - 1}: a prompt may take {longest} tokens; lower"
    ):
        views.check(longest - 1)


def test_the_graph_is_no_part_of_a_checkpoint() -> None:
    assert not views_of(FULL).state_dict()
