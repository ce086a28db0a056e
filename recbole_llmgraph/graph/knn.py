"""Nearest neighbours by cosine, in chunks: no N x N matrix."""

import torch
from torch import Tensor


@torch.no_grad()
def cosine_knn(features: Tensor, k: int, include_self: bool = True, chunk: int = 2048) -> Tensor:
    """The `k` most similar rows of every row. `[N, k]`, most similar first, ties by lower index."""
    n = len(features)
    norm = features.norm(dim=1, keepdim=True)
    unit = features / norm.clamp(min=torch.finfo(features.dtype).tiny)
    found = []
    for start in range(0, n, chunk):
        rows = torch.arange(start, min(start + chunk, n))
        similarity = unit[rows] @ unit.T
        similarity[torch.arange(len(rows)), rows] = 2.0 if include_self else -2.0
        found.append(similarity.topk(k, dim=1).indices)
    return torch.cat(found)
