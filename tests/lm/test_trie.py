"""Codes in a trie, and beams against the score of every leaf."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recbole_llmgraph.lm.trie import Found, Trie

V = 5
pieces = st.integers(1, V)


def table_of(codes: list[list[int]]) -> Tensor:
    longest = max(map(len, codes))
    return torch.tensor([[0] * longest, *(code + [0] * (longest - len(code)) for code in codes)])


def free(codes: list[list[int]]) -> list[list[int]]:
    """Without those that begin another."""
    ordered = sorted({tuple(code) for code in codes})
    kept = [a for a, b in pairwise([*ordered, ()]) if b[: len(a)] != a]
    return [list(code) for code in kept]


free_codes = st.lists(st.lists(pieces, min_size=1, max_size=4), min_size=1, max_size=20).map(free)


class Language:
    """Log-probabilities that depend on the row and on everything written so far."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.written: list[list[tuple[int, ...]]] = []

    def told(self, row: int, before: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((row, before)) % 2**31)
        return torch.log_softmax(2 * torch.randn(V, generator=generator), dim=0)

    def step(self, written: Tensor, parents: Tensor) -> Tensor:
        now = []
        for row in range(self.rows):
            beams = []
            for piece, parent in zip(written[row].tolist(), parents[row].tolist(), strict=True):
                before = self.written[row][parent] if self.written else ()
                beams.append((*before, piece) if piece else before)
            now.append(beams)
        self.written = now
        return torch.stack([torch.stack([self.told(r, b) for b in beams]) for r, beams in enumerate(now)])

    def score(self, row: int, code: list[int]) -> float:
        return sum(float(self.told(row, tuple(code[:t]))[p - 1]) for t, p in enumerate(code))


def search(codes: list[list[int]], widths: list[int]) -> Found:
    return Trie(table_of(codes), V).search(torch.tensor(widths), Language(len(widths)).step)


@settings(max_examples=30)
@given(free_codes, st.integers(1, 2))
def test_as_many_beams_as_leaves_score_them_all(codes: list[list[int]], rows: int) -> None:
    found = search(codes, [len(codes)] * rows)
    for row in range(rows):
        scores = {leaf: Language(rows).score(row, code) for leaf, code in enumerate(codes, 1)}
        expected = sorted(scores, key=lambda leaf: -scores[leaf])
        assert found.leaves[row].tolist() == expected
        torch.testing.assert_close(found.scores[row], torch.tensor([scores[leaf] for leaf in expected]))


@settings(max_examples=30)
@given(free_codes, st.lists(st.integers(1, 9), min_size=2, max_size=3))
def test_beams_are_the_plain_search_and_depend_on_no_other_row(
    codes: list[list[int]], widths: list[int]
) -> None:
    found = search(codes, widths)
    for row, width in enumerate(widths):
        expected = plain(codes, row, width, len(widths))
        reached = found.leaves[row][found.scores[row] > -torch.inf].tolist()
        assert reached == expected
        assert (found.leaves[row][len(reached) :] == 0).all()


def plain(codes: list[list[int]], row: int, width: int, rows: int) -> list[int]:
    """Beam search by lists: the best `width` ways of each length, ended ones among them."""
    language, leaves = Language(rows), {tuple(code): leaf for leaf, code in enumerate(codes, 1)}
    beams: list[list[int]] = [[]]
    for _ in range(max(map(len, codes))):
        grown = [beam for beam in beams if tuple(beam) in leaves]
        for beam in beams:
            if tuple(beam) not in leaves:
                grown += [
                    [*beam, p]
                    for p in range(1, V + 1)
                    if any(c[: len(beam) + 1] == [*beam, p] for c in codes)
                ]
        beams = sorted(grown, key=lambda beam: -language.score(row, beam))[:width]
    return [leaves[tuple(beam)] for beam in beams]


@pytest.mark.parametrize(
    ("codes", "what"),
    [
        ([[1, 2], [1, 2]], "stands twice"),
        ([[1], [1, 2]], "code 1 begins code 2"),
        ([[1, 2], [1]], "begins another"),
        ([[1], [0]], "code 2 is empty"),
    ],
)
def test_codes_that_cannot_be_told_apart_are_refused(codes: list[list[int]], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Trie(table_of(codes), V)
