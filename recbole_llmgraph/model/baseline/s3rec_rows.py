"""What S3-Rec's pre-training hides of a batch: items, and one segment of every history.

The draws have the distribution of RecBole's `S3Rec.reconstruct_pretrain_data`, which walks over every slot
in Python and lists every attribute of every slot, a list of 0 and 1 each.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HiddenRows:
    """One batch, histories on the right and padding (0) on the left; every field is `[B, W]`.

    Attributes:
        sequence: histories.
        masked: histories with single items hidden.
        negatives: at hidden items, an item that the history does not hold; elsewhere the history.
        without_segment: histories with one segment hidden.
        segment: that segment in its place, the rest hidden.
        foreign: a segment of the same length from anywhere in the batch in its place, the rest hidden.
    """

    sequence: Tensor
    masked: Tensor
    negatives: Tensor
    without_segment: Tensor
    segment: Tensor
    foreign: Tensor


def hide(item_seq: Tensor, lengths: Tensor, mask_token: int, mask_ratio: float) -> HiddenRows:
    """Draw what is hidden.

    Args:
        item_seq: histories, padded on the right. `[B, W]`
        lengths: of the histories, at least 1. `[B]`
        mask_token: id that stands for a hidden item; ids of items lie below.
        mask_ratio: chance of each item to be hidden.
    """
    width = item_seq.shape[1]
    place = torch.arange(width, device=item_seq.device) - (width - lengths).unsqueeze(1)
    real = place >= 0  # [B, W]; place is the index in the history
    sequence = torch.where(real, item_seq.gather(1, place.clamp(min=0)), 0)
    chosen = real & (torch.rand(sequence.shape, device=sequence.device) < mask_ratio)
    negatives = sequence.clone()
    negatives[chosen] = items_outside(sequence[chosen.nonzero()[:, 0]], mask_token)
    return HiddenRows(
        sequence,
        torch.where(chosen, mask_token, sequence),
        negatives,
        *_segments(item_seq, sequence, lengths, place, mask_token),
    )


def items_outside(histories: Tensor, mask_token: int) -> Tensor:
    """An id outside each history, uniform over 1 .. mask_token as in RecBole. `[M, W] -> [M]`"""
    found = torch.randint(1, mask_token + 1, (len(histories),), device=histories.device)
    again = (histories == found.unsqueeze(1)).any(dim=1).nonzero()[:, 0]
    while len(again):
        found[again] = torch.randint(1, mask_token + 1, (len(again),), device=histories.device)
        again = again[(histories[again] == found[again].unsqueeze(1)).any(dim=1)]
    return found


def _segments(
    item_seq: Tensor, sequence: Tensor, lengths: Tensor, place: Tensor, mask_token: int
) -> tuple[Tensor, Tensor, Tensor]:
    """History without its segment, the segment alone, a foreign one; one-item histories stay whole."""
    batch = item_seq[torch.arange(item_seq.shape[1], device=item_seq.device) < lengths.unsqueeze(1)]
    size = 1 + _below(lengths // 2)
    start = _below(lengths - size + 1)
    foreign_start = _below(len(batch) - size + 1)
    offset = place - start.unsqueeze(1)
    short = (lengths < 2).unsqueeze(1)
    inside = (offset >= 0) & (offset < size.unsqueeze(1)) & ~short
    kept = inside | short | (place < 0)
    source = (foreign_start.unsqueeze(1) + offset).clamp(0, len(batch) - 1)
    return (
        torch.where(inside, mask_token, sequence),
        torch.where(kept, sequence, mask_token),
        torch.where(inside, batch[source], torch.where(kept, sequence, mask_token)),
    )


def _below(limits: Tensor) -> Tensor:
    """One whole number each, uniform over 0 .. limit - 1 (0 where the limit is 0)."""
    drawn = (torch.rand(limits.shape, device=limits.device, dtype=torch.float64) * limits).long()
    return torch.minimum(drawn, (limits - 1).clamp(min=0))
