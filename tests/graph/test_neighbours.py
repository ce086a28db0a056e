"""Drawn neighbours against sets kept in a dictionary, and their chances against counts of many draws."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.graph.neighbours import NeighbourSampler, distinct, mix_keys

NODES = 7
EDGES = st.lists(st.tuples(st.integers(1, NODES - 1), st.integers(1, 12)), max_size=40)


def sampler_of(edges: list[tuple[int, int]], n_nodes: int = NODES) -> NeighbourSampler:
    pairs = torch.tensor(edges, dtype=torch.long).view(-1, 2)
    return NeighbourSampler(pairs[:, 0], pairs[:, 1], n_nodes)


def around(edges: list[tuple[int, int]], node: int, excluded: int = 0) -> set[int]:
    return {other for one, other in edges if one == node} - {excluded}


# ---- keys


def test_keys_are_splitmix64() -> None:
    """The published first outputs of splitmix64 from seed 0 and 1234567, two highest bits dropped."""
    low = (1 << 62) - 1
    assert int(mix_keys(0)) == 0xE220A8397B1DCDAF & low
    assert int(mix_keys(1234567)) == 6457827717110365317 & low


def test_keys_take_numbers_and_rows_alike() -> None:
    rows = torch.arange(6)
    found = mix_keys(3, rows.unsqueeze(1), rows, -1)
    assert found.shape == (6, 6)
    assert int(found.min()) >= 0
    for a in range(6):
        for b in range(6):
            assert int(found[a, b]) == int(mix_keys(3, a, b, -1))


def test_keys_tell_parts_their_order_and_their_number_apart() -> None:
    grid = torch.arange(300)
    keys = mix_keys(grid.unsqueeze(1), grid)
    assert keys.unique().numel() == keys.numel()  # (1, 2) is not (2, 1)
    assert mix_keys(5) != mix_keys(5, 0) != mix_keys(0, 5)
    assert len({int(mix_keys(seed, -1)) for seed in range(-50, 50)}) == 100


def test_remainders_of_keys_are_even() -> None:
    """Chi-square of 17 bins over keys of neighbouring numbers: 16 degrees of freedom, 5 sigma."""
    counts = torch.bincount(mix_keys(1, torch.arange(17_000)) % 17, minlength=17)
    square = float((counts - 1000).square().sum() / 1000)
    assert square < 16 + 5 * math.sqrt(2 * 16)


# ---- neighbours


@settings(max_examples=150, deadline=None)
@given(EDGES, st.integers(1, 9), st.integers(0, 2**40), st.data())
def test_draws_are_different_true_neighbours_and_as_many_as_there_are(edges, k, seed, data) -> None:
    rows = data.draw(st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, 14)), max_size=12))
    nodes = torch.tensor([node for node, _ in rows], dtype=torch.long)
    excluded = torch.tensor([other for _, other in rows], dtype=torch.long)
    keys = mix_keys(seed, torch.arange(len(rows)))
    sampler = sampler_of(edges)
    for apart in (None, excluded):
        drawn = sampler(nodes, k, keys, apart)
        assert drawn.shape == (len(rows), k)
        for (node, other), found in zip(rows, drawn.tolist(), strict=True):
            allowed = around(edges, node, 0 if apart is None else other)
            count = min(k, len(allowed))
            assert all(found[:count]) and not any(found[count:])  # to the left, then nothing
            assert len(set(found[:count])) == count
            assert set(found[:count]) <= allowed


@settings(max_examples=60, deadline=None)
@given(EDGES, st.integers(1, 5), st.permutations(range(12)), st.integers(1, 11))
def test_a_rows_draws_depend_on_nothing_but_its_own_key(edges, k, order, cut) -> None:
    sampler = sampler_of(edges)
    nodes = torch.arange(12) % NODES
    excluded, keys = torch.arange(12) % 5, mix_keys(9, torch.arange(12))
    whole = sampler(nodes, k, keys, excluded)
    shuffled = torch.tensor(order)
    parts = [sampler(nodes[p], k, keys[p], excluded[p]) for p in (shuffled[:cut], shuffled[cut:])]
    assert torch.equal(torch.cat(parts), whole[shuffled])


def test_an_edge_of_many_counts_once_and_other_nodes_edges_change_nothing() -> None:
    edges = [(1, 4), (1, 9), (1, 2), (2, 3)]
    nodes, keys = torch.ones(50, dtype=torch.long), mix_keys(0, torch.arange(50))
    plain = sampler_of(edges)(nodes, 2, keys)
    assert torch.equal(sampler_of(edges * 3)(nodes, 2, keys), plain)
    assert torch.equal(sampler_of([*edges, (2, 900), (6, 4)])(nodes, 2, keys), plain)


def test_what_is_no_neighbour_excludes_nothing() -> None:
    """An id beyond the largest must not be taken for the next node's edge: 1 * 4 + 5 is 2 * 4 + 1."""
    sampler = sampler_of([(1, 2), (1, 3), (2, 1), (2, 3)])
    assert sampler.stride == 4
    keys = mix_keys(0, torch.arange(2))
    for foreign in (0, 1, 4, 5, 7, 10**9):
        drawn = sampler(torch.tensor([1, 0]), 3, keys, torch.full((2,), foreign))
        assert set(drawn[0].tolist()) == {0, 2, 3} and drawn[1].tolist() == [0, 0, 0]


def test_a_graph_without_edges_has_no_neighbours() -> None:
    sampler = sampler_of([])
    nodes = torch.arange(NODES)
    assert not sampler(nodes, 3, mix_keys(nodes)).any()
    assert not sampler(nodes, 3, mix_keys(nodes), nodes).any()
    assert sampler(nodes[:0], 3, mix_keys(nodes[:0])).shape == (0, 3)


@pytest.mark.parametrize(("degree", "k"), [(2, 1), (5, 3), (7, 5), (8, 3), (23, 4), (40, 20)])
@pytest.mark.parametrize("hole", [False, True])
def test_every_neighbour_is_equally_likely(degree: int, k: int, hole: bool) -> None:
    """Counts of many draws lie within five standard errors of draws * k / degree, each neighbour's own."""
    draws = 20_000
    edges = [(1, 1)] + [(2, 10 + 3 * place) for place in range(degree + hole)] + [(3, 1)]
    sampler = sampler_of(edges)
    nodes = torch.full((draws,), 2)
    apart = torch.full((draws,), 10 + 3 * (degree // 2)) if hole else None
    drawn = sampler(nodes, k, mix_keys(degree, torch.arange(draws)), apart)
    counts = Counter(drawn.flatten().tolist())
    assert len(counts) == degree
    chance = k / degree
    error = math.sqrt(draws * chance * (1 - chance))
    assert max(abs(count - draws * chance) for count in counts.values()) < 5 * error


def test_any_two_neighbours_meet() -> None:
    """One draw keeps neighbours of one stratum apart; turning the strata lets every pair meet."""
    sampler = sampler_of([(1, other) for other in range(1, 8)])
    drawn = sampler(torch.ones(2000, dtype=torch.long), 3, mix_keys(torch.arange(2000)))
    pairs = {frozenset(pair) for row in drawn.tolist() for pair in zip(row, row[1:] + row[:1], strict=True)}
    assert len(pairs) == 7 * 6 // 2


def test_memory_grows_with_the_edges_alone() -> None:
    sampler = NeighbourSampler(torch.tensor([1, 99_999]), torch.tensor([5, 10**9]), 100_000)
    assert sum(part.numel() for part in sampler.buffers()) == 2 + 2 + 100_001
    assert sampler(torch.tensor([99_999, 1]), 1, mix_keys(torch.arange(2))).tolist() == [[10**9], [5]]
    assert not sampler.state_dict()  # a checkpoint has no use for the graph


# ---- different ids


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=6, max_size=6), max_size=6),
    st.integers(1, 8),
    st.integers(0, 2**40),
)
def test_each_id_once_and_no_more_than_the_cap(rows, cap, seed) -> None:
    ids = torch.tensor(rows, dtype=torch.long).view(-1, 6)
    keys = mix_keys(seed, torch.arange(len(rows)))
    found, counts = distinct(ids, cap, keys)
    assert found.shape == (len(rows), min(6, cap))
    for row, kept, count in zip(rows, found.tolist(), counts.tolist(), strict=True):
        there = set(row) - {0}
        assert count == min(cap, len(there))
        assert len(set(kept[:count])) == count and set(kept[:count]) <= there
        assert not any(kept[count:])


def test_no_ids_are_no_ids() -> None:
    found, counts = distinct(torch.zeros(3, 0, dtype=torch.long), 4, mix_keys(torch.arange(3)))
    assert found.shape == (3, 0) and counts.tolist() == [0, 0, 0]


def test_which_ids_stay_depends_on_the_row_alone() -> None:
    """Neither order, repeats, other rows nor ids that only pad change what is kept, or its order."""
    ids = torch.tensor([[5, 7, 2, 9, 0, 0], [3, 3, 1, 0, 8, 6]])
    keys = mix_keys(4, torch.arange(2))
    found, _ = distinct(ids, 3, keys)
    assert torch.equal(distinct(ids.flip(1), 3, keys)[0], found)
    assert torch.equal(distinct(torch.cat([ids, ids], 1), 3, keys)[0], found)
    assert torch.equal(distinct(ids[1:], 3, keys[1:])[0], found[1:])


def test_every_id_stays_and_leads_equally_often_however_often_it_came() -> None:
    draws = 20_000
    ids = torch.tensor([1, 1, 1, 1, 2, 3, 4, 4]).expand(draws, -1)
    found, _ = distinct(ids, 2, mix_keys(0, torch.arange(draws)))
    for part, chance in ((found, 1 / 2), (found[:, :1], 1 / 4)):
        counts = torch.bincount(part.flatten(), minlength=5)[1:]
        error = math.sqrt(draws * chance * (1 - chance))
        assert float((counts - draws * chance).abs().max()) < 5 * error
