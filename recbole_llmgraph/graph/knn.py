"""Nearest neighbours by cosine, in chunks: never an N x N matrix, never an arbitrary choice among ties."""

import torch
from torch import Tensor

from recbole_llmgraph.loss.product import times_transposed

#: Neighbours that are looked at more closely than asked for.
SPARE = 22
#: Similarities closer than this are ties. Far above float64's rounding, so that equal rows tie
#: however a product was split; far below what a feature means.
GRID = 2.0**-30
#: Rows compared with all others in float64 at a time.
EXACT_ROWS = 128
#: More than float32's rounding of a cosine.
COARSE = 1e-5


@torch.no_grad()
def cosine_knn(features: Tensor, k: int, include_self: bool = True, chunk: int = 1024) -> Tensor:
    """The `k` rows most similar to each row by cosine, most similar first, ties by lower index.

    Candidates are found in float32 and ordered in float64, so the answer depends neither on `chunk`
    nor on the number of threads. A row without direction (norm zero, an item without text) has similarity
    0 to all: nothing tells its neighbours apart, and it lists itself `k` times.

    Args:
        features: `[N, d]`, finite.
        k: neighbours a row; with itself among them when `include_self`.
        include_self: whether each row is the first neighbour of its own list.
        chunk: rows compared at a time; memory is chunk x N.

    Returns:
        `[N, k]` int64 row numbers.

    Raises:
        ValueError: k out of range, or a feature that is not finite.
    """
    n = len(features)
    most = n if include_self else n - 1
    if not 1 <= k <= most:
        raise ValueError(f"k must lie in 1 .. {most} for {n} rows, not {k}")
    if not bool(torch.isfinite(features).all()):
        raise ValueError("features must be finite")
    norm = torch.linalg.vector_norm(features.double(), dim=1, keepdim=True)
    exact = features.double() / norm.masked_fill(norm == 0, 1)
    coarse = exact.float()
    neighbours = torch.arange(n, device=features.device)[:, None].repeat(1, k)
    for rows in norm[:, 0].nonzero()[:, 0].split(max(1, chunk)):
        neighbours[rows] = _nearest(rows, exact, coarse, k, include_self)
    return neighbours


def _nearest(rows: Tensor, exact: Tensor, coarse: Tensor, k: int, include_self: bool) -> Tensor:
    """Neighbours of some rows: from the best candidates, or from all rows where these may not suffice."""
    n = len(exact)
    wide = min(k + SPARE, n)
    values, ids = times_transposed(coarse[rows], coarse).topk(wide, dim=1)
    pairs = torch.bmm(exact[ids], exact[rows].unsqueeze(2)).squeeze(2)
    chosen = _order(pairs, ids, rows, k, include_self, n)
    # The row itself apart, the k-th choice must beat every row outside the candidates beyond doubt.
    crowded = values[:, -1] > values[:, min(k, wide - 1)] - COARSE
    if wide < n and bool(crowded.any()):
        for part in crowded.nonzero()[:, 0].split(EXACT_ROWS):
            everyone = torch.arange(n, device=rows.device).expand(len(part), n)
            full = exact[rows[part]] @ exact.T
            chosen[part] = _order(full, everyone, rows[part], k, include_self, n)
    return chosen


def _order(similarity: Tensor, ids: Tensor, rows: Tensor, k: int, include_self: bool, n: int) -> Tensor:
    """The k best `ids` by similarity on the grid, then by id: one integer says both."""
    steps = (similarity / GRID).round().long()
    top = round(2 / GRID)
    steps = steps.masked_fill(ids == rows[:, None], top if include_self else -top)
    best = (steps * n + (n - 1 - ids)).topk(k, dim=1).indices
    return ids.gather(1, best)
