"""Prompts of different length in one line of tokens, without padding.

Prompts are put in order of length: those of one length stand side by side, so that attention over them is
a view `[n, L, ...]` of the line, and everything else (projections, norms) runs over the line itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Packed:
    """S prompts with T tokens in all.

    Attributes:
        rows: row of a table for every token, prompts in order of length. `[T]`
        groups: number and length of the prompts of each length, shortest first.
        order: number of the prompt that stands at each place. `[S]`
    """

    rows: Tensor
    groups: list[tuple[int, int]]
    order: Tensor

    def unpacked(self, packed: Tensor) -> Tensor:
        """What belongs to prompts in order of length, in the order they came. `[S, ...]`"""
        places = torch.empty_like(self.order)
        places[self.order] = torch.arange(len(self.order), device=self.order.device)
        return packed[places]

    def by_length(self, tokens: Tensor) -> list[Tensor]:
        """Views of the line, one a length. `[T, ...]` to several `[n, L, ...]`"""
        parts = tokens.split([count * length for count, length in self.groups])
        return [
            part.unflatten(0, (count, length))
            for part, (count, length) in zip(parts, self.groups, strict=True)
        ]

    def means(self, states: Tensor) -> Tensor:
        """Mean over each prompt's tokens, in the order the prompts came. `[T, D]` to `[S, D]`"""
        return self.unpacked(torch.cat([part.mean(1) for part in self.by_length(states)]))


def pack(prompts: Sequence[Tensor]) -> Packed:
    """Pack prompts of several forms.

    Args:
        prompts: each form's table rows `[S_f, T_f]`, 0 at padding, which stands on the right.

    Raises:
        ValueError: when a prompt is empty.
    """
    widest = max(rows.shape[1] for rows in prompts)
    rows = torch.cat([F.pad(form, (0, widest - form.shape[1])) for form in prompts])
    sizes = (rows > 0).sum(1)
    if len(rows) and not int(sizes.min()):
        raise ValueError("a prompt without any token cannot be packed")
    order = sizes.argsort(stable=True)
    lengths, counts = sizes[order].unique_consecutive(return_counts=True)
    rows = rows[order]
    return Packed(rows[rows > 0], list(zip(counts.tolist(), lengths.tolist(), strict=True)), order)
