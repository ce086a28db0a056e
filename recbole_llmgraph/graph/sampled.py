"""Inner products of a few sampled pairs: neither the vectors are copied out nor all pairs multiplied."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_llmgraph.graph.sparse import compressed_product


class SampledPairs:
    """k items for each of B users: the pattern of a sparse `[B, N]` matrix with k entries a row.

    Made once a batch and used for every table; what the gradients need is sorted at most once.
    """

    def __init__(self, users: Tensor, items: Tensor, n_users: int, n_items: int) -> None:
        """Args: `[B]` user ids, `[B, k]` item ids, and how many there are, padding included."""
        self.users, self.items = users, items
        self.n_users, self.n_items = n_users, n_items
        rows, k = items.shape
        self.starts = torch.arange(0, rows * k + 1, max(1, k), device=items.device, dtype=torch.int32)
        self.columns = items.reshape(-1).int()

    @cached_property
    def by_item(self) -> tuple[Tensor, Tensor, Tensor]:
        """The transpose: starts `[N + 1]`, rows `[B k]` and the entries' places `[B k]`."""
        starts, order = _grouped(self.columns, self.n_items)
        return starts, (order // self.items.shape[1]).int(), order

    @cached_property
    def by_user(self) -> tuple[Tensor, Tensor]:
        """Which rows belong to each user: starts `[U + 1]`, rows `[B]`."""
        starts, order = _grouped(self.users, self.n_users)
        return starts, order.int()

    def scores(self, nodes: Tensor) -> Tensor:
        """Inner products of each row's user with its k items, differentiable once.

        Args:
            nodes: `[U + N, d]`, users first.

        Returns:
            `[B, k]`.
        """
        scores: Tensor = _Scores.apply(nodes, self)
        return scores


def _grouped(keys: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Compressed starts `[n + 1]` of sorted keys, and the order that sorts them (stable)."""
    order = torch.argsort(keys, stable=True)
    counts = torch.bincount(keys, minlength=n)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int(), order


class _Scores(torch.autograd.Function):
    """s = <x_u, y_j>; the gradients are three row-wise sparse products, which add up in one order."""

    @staticmethod
    def forward(ctx: Any, nodes: Tensor, pairs: SampledPairs) -> Tensor:
        ctx.pairs = pairs
        ctx.save_for_backward(nodes)
        left, items = nodes[pairs.users], nodes[pairs.n_users :]
        if nodes.is_cuda or pairs.items.numel() == 0:
            return torch.einsum("bd,bkd->bk", left, items[pairs.items])
        ones = left.new_ones(len(pairs.columns))
        pattern = torch.sparse_csr_tensor(
            pairs.starts, pairs.columns, ones, (len(left), pairs.n_items), check_invariants=False
        )
        products: Tensor = torch.sparse.sampled_addmm(pattern, left, items.T, beta=0.0).values()
        return products.view(pairs.items.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        pairs: SampledPairs = ctx.pairs
        (nodes,) = ctx.saved_tensors
        left, items = nodes[pairs.users], nodes[pairs.n_users :]
        flat, rows = gradients[0].reshape(-1), len(pairs.users)
        by_row = compressed_product(pairs.starts, pairs.columns, flat, (rows, pairs.n_items), items)
        starts, members = pairs.by_user
        ones = flat.new_ones(rows)
        users = compressed_product(starts, members, ones, (pairs.n_users, rows), by_row)
        starts, members, order = pairs.by_item
        return torch.cat(
            [users, compressed_product(starts, members, flat[order], (pairs.n_items, rows), left)]
        ), None
