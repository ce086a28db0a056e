"""Nearest neighbours against Python's sort on (similarity, index)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.graph import knn
from recbole_llmgraph.graph.knn import GRID, cosine_knn

#: Small whole numbers: many exact ties, zero rows, parallel and opposite rows.
ROWS = st.integers(1, 3).flatmap(
    lambda d: st.lists(st.lists(st.integers(-2, 2), min_size=d, max_size=d), min_size=2, max_size=45)
)


def by_sorting(features, k, include_self):
    rows = features.double().numpy()
    norms = np.sqrt((rows * rows).sum(1))
    found = []
    for i, row in enumerate(rows):
        if not norms[i]:
            found.append([i] * k)
            continue
        both = norms[i] * norms
        similarity = np.divide((rows * row).sum(1), both, out=np.zeros(len(rows)), where=both > 0)
        steps = np.round(similarity / GRID).tolist()
        order = sorted((j for j in range(len(rows)) if j != i), key=lambda j, steps=steps: (-steps[j], j))
        found.append(([i] + order if include_self else order)[:k])
    return torch.tensor(found)


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(1, 8), st.booleans(), st.sampled_from([1, 3, 1024]))
def test_equals_sorting_by_similarity_then_index(rows, k, include_self, chunk):
    features = torch.tensor(rows, dtype=torch.float32)
    k = min(k, len(rows) - (not include_self))
    assert torch.equal(cosine_knn(features, k, include_self, chunk), by_sorting(features, k, include_self))


@pytest.fixture
def crowd():
    """Rows in general position, a crowd of equals, near-equals, and rows without direction."""
    torch.manual_seed(1)
    features = torch.randn(300, 16)
    features[100:180] = features[7]
    features[200:240] = features[7] + 1e-4 * torch.randn(40, 16)
    features[[3, 250]] = 0
    return features


@pytest.mark.parametrize("k", [1, 5, 60, 120])
def test_crowds_of_equals_are_sorted_too(crowd, k):
    assert torch.equal(cosine_knn(crowd, k), by_sorting(crowd, k, True))


def test_chunks_and_threads_change_nothing(crowd):
    once = cosine_knn(crowd, 10)
    assert all(torch.equal(once, cosine_knn(crowd, 10, chunk=chunk)) for chunk in (1, 7, 64, 300))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(once, cosine_knn(crowd, 10))
    finally:
        torch.set_num_threads(threads)


def test_a_sure_list_is_not_looked_at_twice(monkeypatch, crowd):
    """Rows in general position are settled by their candidates; only crowds compare with everyone."""
    seen = []
    order = knn._order

    def counted(similarity, *rest):
        seen.append(similarity.shape)
        return order(similarity, *rest)

    monkeypatch.setattr(knn, "_order", counted)
    cosine_knn(torch.randn(300, 16), 5)
    assert all(shape[1] < 300 for shape in seen)
    cosine_knn(crowd, 5)
    assert any(shape[1] == 300 for shape in seen)


def test_rows_of_one_direction_tie_whatever_their_rounding():
    """Multiples of a row by odd numbers point alike; float64 has their unit rows an ulp apart."""
    row = torch.tensor([1.0, 2.0, 5.0, -3.0, 7.0])
    factors = torch.tensor([7.0, 3.0, 11.0, 5.0, 13.0, 1.0, 19.0, 23.0])
    features = torch.cat([torch.tensor([[2.0, 1.0, 4.0, -1.0, 3.0]]), factors[:, None] * row])
    units = features.double() / features.double().norm(dim=1, keepdim=True)
    assert len((units[1:] @ units[0]).unique()) > 1  # or this test shows nothing
    assert cosine_knn(features, 9)[0].tolist() == list(range(9))


def test_k_of_one_is_the_row_itself_even_among_equals():
    features = torch.ones(50, 4)
    assert torch.equal(cosine_knn(features, 1), torch.arange(50).view(-1, 1))


def test_rows_without_direction_list_themselves(crowd):
    assert cosine_knn(crowd, 6)[[3, 250]].tolist() == [[3] * 6, [250] * 6]
    assert cosine_knn(crowd, 6, include_self=False)[3].tolist() == [3] * 6


def test_no_row_with_direction():
    assert cosine_knn(torch.zeros(4, 2), 2).tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]


def test_length_does_not_matter():
    torch.manual_seed(0)
    features = torch.randn(40, 8)
    lengths = torch.logspace(-15, 15, 40)[:, None]
    assert torch.equal(cosine_knn(features, 7), cosine_knn(features * lengths, 7))


@pytest.mark.parametrize(
    ("k", "include_self", "allowed"), [(0, True, "1 .. 3"), (4, True, "1 .. 3"), (3, False, "1 .. 2")]
)
def test_k_out_of_range_is_told(k, include_self, allowed):
    with pytest.raises(ValueError, match=f"k must lie in {allowed} for 3 rows"):
        cosine_knn(torch.randn(3, 2), k, include_self)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_told(value):
    features = torch.randn(3, 2)
    features[1, 1] = value
    with pytest.raises(ValueError, match="finite"):
        cosine_knn(features, 1)
