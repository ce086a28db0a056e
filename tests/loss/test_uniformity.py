"""How far rows lie apart, against loops over all pairs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.loss.uniformity import spread


def by_loops(rows: list[list[float]]) -> tuple[float, float]:
    unit = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows]
    pairs = [(a, b) for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j]
    cosine = sum(sum(x * y for x, y in zip(a, b, strict=True)) for a, b in pairs) / len(pairs)
    kernel = sum(math.exp(-2 * sum((x - y) ** 2 for x, y in zip(a, b, strict=True))) for a, b in pairs)
    return cosine, math.log(kernel / len(pairs))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 9), st.integers(1, 5), st.integers(0, 10**6))
def test_equals_loops(n: int, d: int, seed: int) -> None:
    torch.manual_seed(seed)
    rows = torch.randn(n, d) * 3
    assert spread(rows) == pytest.approx(by_loops(rows.double().tolist()), abs=1e-5)


def test_rows_alike_opposite_and_across() -> None:
    row = torch.randn(6)
    assert spread(torch.stack([row, 5 * row, 0.1 * row])) == pytest.approx((1, 0), abs=1e-5)
    assert spread(torch.stack([row, -row])) == pytest.approx((-1, -8), abs=1e-5)
    assert spread(torch.eye(4)) == pytest.approx((0, -4), abs=1e-6)


def test_nothing_is_learned_from_it_and_half_precision_is_read_in_full() -> None:
    rows = torch.randn(5, 4, requires_grad=True)
    cosine, uniformity = spread(rows)
    assert isinstance(cosine, float) and isinstance(uniformity, float)
    half = rows.detach().bfloat16()
    assert spread(half) == pytest.approx(spread(half.float()), abs=1e-6)
