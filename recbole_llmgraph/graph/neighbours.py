"""Neighbours in a bipartite graph, drawn by keys: what is drawn for a row depends on its key alone.

A generator's draws would depend on which rows share a batch and in which order; a hash of the row's own
key does not. So the order of batches, their size and the number of workers change no prompt.
"""

import torch
from torch import Tensor, nn

# Multipliers and shifts of splitmix64 (Steele, Lea, Flood, OOPSLA 2014), as signed 64-bit numbers.
_GOLDEN, _FIRST, _SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685


def mix_keys(*parts: Tensor | int) -> Tensor:
    """Hash whole numbers into non-negative keys below 2^62, elementwise with broadcasting."""
    key = torch.zeros((), dtype=torch.int64)
    for part in parts:
        key = _scrambled((key if isinstance(part, int) else key.to(part.device)) + _GOLDEN + part)
    return key & ((1 << 62) - 1)


def _scrambled(key: Tensor) -> Tensor:
    """splitmix64's finaliser; torch shifts signed numbers, so copied sign bits are masked away."""
    key = (key ^ ((key >> 30) & ((1 << 34) - 1))) * _FIRST
    key = (key ^ ((key >> 27) & ((1 << 37) - 1))) * _SECOND
    return key ^ ((key >> 31) & ((1 << 33) - 1))


class NeighbourSampler(nn.Module):
    """Draws neighbours of nodes without replacement.

    Memory grows with the edges; a draw's time with what is drawn, not with degrees.
    """

    starts: Tensor
    neighbours: Tensor
    codes: Tensor

    def __init__(self, nodes: Tensor, neighbours: Tensor, n_nodes: int) -> None:
        """Args: both ends of every edge `[E]`, `[E]`, repeated ones count once; nodes with padding (id 0)."""
        super().__init__()
        edges = torch.stack([nodes, neighbours]).unique(dim=1)  # sorted by node, then neighbour
        counts = torch.bincount(edges[0], minlength=n_nodes)
        #: Larger than every neighbour's id, so that `node * stride + neighbour` tells edges apart.
        self.stride = int(edges[1].max()) + 1 if edges.shape[1] else 1
        self.register_buffer("starts", torch.cat([counts.new_zeros(1), counts.cumsum(0)]), persistent=False)
        self.register_buffer("neighbours", edges[1], persistent=False)
        self.register_buffer("codes", edges[0] * self.stride + edges[1], persistent=False)

    def forward(self, nodes: Tensor, k: int, keys: Tensor, excluded: Tensor | None = None) -> Tensor:
        """At most k different neighbours of every node, every one of them equally likely.

        Each node's list, closed to a ring, is cut into k strata and one is drawn of each; the cuts are
        turned by a random angle.

        Args:
            nodes: `[R]`; padding has no neighbours.
            k: how many.
            keys: of `mix_keys`. `[R]`
            excluded: a neighbour of each node that must not be drawn. `[R]`

        Returns:
            Ids `[R, k]`, drawn ones to the left, 0 where nothing is left to draw.
        """
        start = self.starts[nodes].unsqueeze(1)  # [R, 1]
        degree = self.starts[nodes + 1].unsqueeze(1) - start
        hole = degree
        if excluded is not None:
            hole = self._place(nodes, excluded).unsqueeze(1) - start  # at the end where it is no neighbour
            degree = degree - (hole < degree).long()
        slot = torch.arange(k, device=nodes.device)
        low, high = slot * degree // k, (slot + 1) * degree // k
        drawn = low + mix_keys(keys.unsqueeze(1), slot) % (high - low).clamp_min(1)
        drawn = torch.where(degree > k, drawn, slot)
        turn = mix_keys(keys, k).unsqueeze(1)
        drawn = (drawn + turn % degree.clamp_min(1)) % degree.clamp_min(1)
        kept = slot < degree
        place = torch.where(kept, start + drawn + (drawn >= hole), 0)
        return self.neighbours[place] * kept if len(self.neighbours) else place

    def _place(self, nodes: Tensor, neighbours: Tensor) -> Tensor:
        """Place of each edge in the list of edges; the end of the node's part for one that is none. `[R]`"""
        codes = nodes * self.stride + neighbours
        place = torch.searchsorted(self.codes, codes).clamp_max(max(0, len(self.codes) - 1))
        known = (neighbours < self.stride) & (self.codes[place] == codes) if len(self.codes) else codes < 0
        return torch.where(known, place, self.starts[nodes + 1])


def distinct(ids: Tensor, cap: int, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Different ids of every row, at most `cap` of them, drawn uniformly and put in random order.

    Args:
        ids: `[R, W]`, 0 is no id.
        cap: how many to keep.
        keys: of `mix_keys`. `[R]`

    Returns:
        Ids `[R, min(W, cap)]`, kept ones to the left, 0 elsewhere, and their number `[R]`.
    """
    ids = ids.sort(dim=1).values
    fresh = ids > 0
    fresh[:, 1:] &= ids[:, 1:] != ids[:, :-1]
    chance = mix_keys(keys.unsqueeze(1), ids)
    order = torch.where(fresh, chance, torch.iinfo(torch.int64).max).argsort(dim=1)[:, :cap]
    fresh = fresh.gather(1, order)
    return ids.gather(1, order) * fresh, fresh.sum(1)
