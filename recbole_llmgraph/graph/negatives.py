"""Negatives by degree, drawn exactly and without rejection, from what a user did not meet."""

import torch
from torch import Tensor, nn

from recbole_llmgraph.graph.sparse import distinct_pairs

#: Weights become whole numbers that sum to about this many units, so that what must not be drawn never is.
UNITS = 2**40


class DegreeNegatives(nn.Module):
    """Draws items j that user u did not meet, P(j) ∝ d_j^alpha.

    The items are laid side by side on a line, each as long as its weight. A user's own items are cut
    out of it, a uniform number picks a place on what is left, and two binary searches say how much was cut
    out before that place and whose place it is. Memory grows with users, items and pairs.
    """

    starts: Tensor
    ends: Tensor
    cuts: Tensor
    cut_before: Tensor
    free: Tensor

    def __init__(
        self, degrees: Tensor, users: Tensor, items: Tensor, n_users: int, *, alpha: float = 0.75
    ) -> None:
        """Lay out the line.

        Args:
            degrees: `[n_items]` d; items of degree 0, padding among them, are never drawn.
            users: `[E]` who met
            items: `[E]` what; these pairs are never drawn. Repeats count once.
            n_users: number of users, padding included.
            alpha: power of the degree.

        Raises:
            ValueError: when no item has a degree.
        """
        super().__init__()
        weights = degrees.double().pow(alpha).masked_fill(degrees <= 0, 0)
        if not float(weights.sum()) > 0:
            raise ValueError("no item has a degree: nothing can be drawn")
        units = min(UNITS, 2**62 // (n_users + 1))
        widths = (weights / weights.sum() * units).round().long()
        widths[(weights > 0) & (widths == 0)] = 1
        ends = widths.cumsum(0)
        total = int(ends[-1])
        users, items = distinct_pairs(users, items, (n_users, len(degrees)))
        cut = widths[items]
        before = torch.cat([cut.new_zeros(1), cut.cumsum(0)])  # [E + 1], over all users
        bounds = torch.searchsorted(users, torch.arange(n_users + 1, device=users.device))
        own = before[:-1] - before[bounds[users]]  # cut out of the same user's line, further left
        self.total = total
        self.register_buffer("ends", ends, persistent=False)
        self.register_buffer("starts", bounds[:-1], persistent=False)
        # Places of the cuts on what is left of each user's line, all lines in one sorted list.
        self.register_buffer("cuts", users * total + (ends - widths)[items] - own, persistent=False)
        self.register_buffer("cut_before", before, persistent=False)
        self.register_buffer("free", total - (before[bounds[1:]] - before[bounds[:-1]]), persistent=False)

    def forward(self, users: Tensor, k: int) -> Tensor:
        """Draw `k` items a row, independently and with repeats.

        Args:
            users: `[B]` ids of users who have something left (`free > 0`).
            k: draws a row.

        Returns:
            `[B, k]` item ids.

        Raises:
            ValueError: for a user who met every item that anybody met.
        """
        free = self.free[users].unsqueeze(1)
        if bool((free <= 0).any()):
            raise ValueError(f"user {int(users[free[:, 0] <= 0][0])} met every item: there is no negative")
        drawn = torch.rand(len(users), k, dtype=torch.float64, device=users.device)
        place = torch.minimum((drawn * free).long(), free - 1)
        line = users.unsqueeze(1) * self.total
        passed = torch.searchsorted(self.cuts, place + line, right=True)
        place += self.cut_before[passed] - self.cut_before[self.starts[users]].unsqueeze(1)
        return torch.searchsorted(self.ends, place, right=True)
