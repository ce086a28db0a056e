"""Unseen items inside or outside a group, drawn exactly and without rejection."""

import torch
from torch import Tensor, nn

from recbole_llmgraph.graph.sparse import distinct_pairs


class GroupNegatives(nn.Module):
    """Draws items uniformly from what a user did not meet, all of them or by group.

    The items stand in a row, group by group. A user's own items are taken out of it; what is left is
    numbered, so that the unseen items of a group are a range of numbers, and a binary search says which item
    a number means. LAGCL4Rec's release tries ten times and then takes anything; here every draw that can
    be right is.
    """

    order: Tensor
    first: Tensor
    group: Tensor
    cuts: Tensor
    seen: Tensor
    starts: Tensor
    free: Tensor

    def __init__(
        self, groups: Tensor, users: Tensor, items: Tensor, n_users: int, *, allowed: Tensor | None = None
    ) -> None:
        """Number the rows.

        Args:
            groups: `[n_items]` group of each item, from 0; padding (item 0) is never drawn.
            users: `[E]` who met
            items: `[E]` what; these pairs are never drawn. Repeats count once.
            n_users: number of users, padding included.
            allowed: `[n_items]` items that may be drawn; default all.
        """
        super().__init__()
        n_items = len(groups)
        drawn = torch.ones(n_items, dtype=torch.bool) if allowed is None else allowed.clone()
        drawn[0] = False
        candidates = drawn.nonzero()[:, 0]
        order = candidates[torch.argsort(groups[candidates], stable=True)]  # [M] items by group
        place = torch.full((n_items,), -1, dtype=torch.long)
        place[order] = torch.arange(len(order))
        counts = torch.bincount(groups[order], minlength=int(groups.max()) + 1)
        users, items = distinct_pairs(users, items, (n_users, n_items))
        known = place[items] >= 0
        keys = (users[known] * len(order) + place[items[known]]).sort().values  # user by user, place by place
        owner = keys // max(1, len(order))
        starts = torch.searchsorted(owner, torch.arange(n_users + 1))
        own = torch.arange(len(keys)) - starts[owner]  # taken out of the same user's row, further left
        self.n_drawn = len(order)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("group", groups, persistent=False)
        self.register_buffer("first", torch.cat([counts.new_zeros(1), counts.cumsum(0)]), persistent=False)
        self.register_buffer("seen", keys, persistent=False)  # [E]
        # Where each seen item was taken out of what is left of its user's row, all rows in one sorted list.
        self.register_buffer("cuts", keys - own, persistent=False)
        self.register_buffer("starts", starts, persistent=False)
        self.register_buffer("free", len(order) - starts.diff(), persistent=False)

    def _left_before(self, users: Tensor, place: Tensor) -> Tensor:
        """Unseen items of each user before a place of the row. `[B]`"""
        met = torch.searchsorted(self.seen, users * self.n_drawn + place) - self.starts[users]
        return place - met

    def _item(self, users: Tensor, number: Tensor) -> Tensor:
        """Item of a number on what is left of each user's row. `[B]`"""
        met = torch.searchsorted(self.cuts, users * self.n_drawn + number, right=True) - self.starts[users]
        return self.order[number + met]

    def uniform(self, users: Tensor) -> Tensor:
        """An unseen item of each user. `[B] -> [B]`

        Raises:
            ValueError: for a user who met every item.
        """
        free = self._free(users)
        return self._item(users, _below(free))

    def inside(self, users: Tensor, groups: Tensor) -> Tensor:
        """An unseen item of a group for each user; any unseen item where the group has none left. `[B]`"""
        free, low, high = self._free(users), *self._bounds(users, groups)
        fits = high > low
        start, count = torch.where(fits, low, 0), torch.where(fits, high - low, free)
        return self._item(users, start + _below(count))

    def outside(self, users: Tensor, groups: Tensor) -> Tensor:
        """An unseen item of another group for each user; any unseen item where there is none. `[B]`"""
        free, low, high = self._free(users), *self._bounds(users, groups)
        fits = free > high - low
        number = _below(torch.where(fits, free - (high - low), free))
        return self._item(users, number + torch.where(fits & (number >= low), high - low, 0))

    def _free(self, users: Tensor) -> Tensor:
        free = self.free[users]
        if bool((free <= 0).any()):
            raise ValueError(f"user {int(users[free <= 0][0])} met every item: there is no negative")
        return free

    def _bounds(self, users: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Range of numbers of a group's unseen items."""
        return self._left_before(users, self.first[groups]), self._left_before(users, self.first[groups + 1])


def _below(count: Tensor) -> Tensor:
    """A whole number in 0 .. count - 1 each. `[B]`"""
    drawn = torch.rand(len(count), dtype=torch.float64, device=count.device)
    return torch.minimum((drawn * count).long(), count - 1)
