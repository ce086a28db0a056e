"""A queue of recent encodings that serve as negatives (He et al., MoCo, CVPR 2020)."""

import torch
from torch import Tensor, nn

#: Id of a slot that was never filled.
EMPTY = -1


class NegativeQueue(nn.Module):
    """Ring of the last `length` encodings and the ids they stand for.

    The ring is a buffer: it moves with `.to(device)` and is saved with the model, so that a resumed
    run meets the same negatives. Encodings are kept without gradient.
    """

    rows: Tensor
    ids: Tensor
    cursor: Tensor

    def __init__(self, length: int, width: int) -> None:
        """Args: slots Q and width d of an encoding, both positive."""
        super().__init__()
        if length < 1 or width < 1:
            raise ValueError(f"a queue needs a positive length and width, not {length} and {width}")
        self.register_buffer("rows", torch.zeros(length, width))
        self.register_buffer("ids", torch.full((length,), EMPTY))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        """Slots filled so far."""
        return int((self.ids != EMPTY).sum())

    @torch.no_grad()
    def push(self, rows: Tensor, ids: Tensor) -> None:
        """Take in a batch; the oldest entries leave. Of a batch longer than the ring, its end stays.

        Call it after the loss: a batch's own entries are no negatives of it.

        Args:
            rows: `[B, d]`.
            ids: `[B]`, not negative.

        Raises:
            ValueError: shapes that do not fit, or a negative id.
        """
        if rows.shape != (len(ids), self.rows.shape[1]):
            raise ValueError(f"expected [{len(ids)}, {self.rows.shape[1]}] rows, not {list(rows.shape)}")
        if len(ids) and int(ids.min()) < 0:
            raise ValueError(f"ids must not be negative, not {int(ids.min())}")
        length, count = len(self.ids), len(ids)
        slots = (self.cursor + torch.arange(count, device=self.ids.device)) % length
        kept = slice(max(0, count - length), None)
        self.rows[slots[kept]] = rows[kept].detach().to(self.rows.dtype)
        self.ids[slots[kept]] = ids[kept]
        self.cursor.fill_((int(self.cursor) + count) % length)

    def mask(self, ids: Tensor) -> Tensor:
        """True where a slot is empty or stands for the anchor's own positive. `[B]` to `[B, Q]`"""
        return (self.ids == ids[:, None]) | (self.ids == EMPTY)

    def extra_repr(self) -> str:
        """Length and width."""
        return f"{len(self.ids)} x {self.rows.shape[1]}"
