"""Lists whose entries are words, a row of the caller's, or both: `<title of A> [A] <title of B> [B] …`.

A `SlotPrompt` takes such a list as the filling of a slot: words are rows of the backbone's text table,
beside the caller's rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Filling:
    """What fills a slot: R rows, and for each of B prompts the numbers of its rows.

    Attributes:
        rows: [R, D].
        places: [B, L], numbers of rows; what stands behind `lengths` counts for nothing.
        lengths: [B].
    """

    rows: Tensor
    places: Tensor
    lengths: Tensor


class Titles(nn.Module):
    """Titles of entries 0 .. N - 1, tokenised once.

    Args:
        texts: one an entry; may be empty.
        tokenizer: of the backbone.
        longest: most tokens of a text that are kept.
        closing: text behind every title, such as a comma; it is never cut.

    Attributes:
        words: [N, P], token ids, 0 behind the last.
        counts: [N], tokens of each.
    """

    words: Tensor
    counts: Tensor

    def __init__(self, texts: Sequence[str], tokenizer: Any, longest: int, closing: str = "") -> None:
        super().__init__()
        end = tokenizer(closing, add_special_tokens=False).input_ids if closing else []
        found = tokenizer(list(texts), add_special_tokens=False).input_ids
        lines = [[*ids[:longest], *end] for ids in found]
        words = torch.zeros(len(lines), max(map(len, lines), default=0), dtype=torch.long)
        for row, line in zip(words, lines, strict=True):
            row[: len(line)] = torch.tensor(line, dtype=torch.long)
        self.register_buffer("words", words, persistent=False)
        counts = torch.tensor([len(line) for line in lines], dtype=torch.long)
        self.register_buffer("counts", counts, persistent=False)

    def forward(
        self, embedding: nn.Embedding, entries: Tensor, lengths: Tensor, slots: tuple[Tensor, Tensor] | None
    ) -> Filling:
        """Lists of entries with their titles, each followed by the entry's own row.

        Args:
            embedding: the backbone's text rows.
            entries: [B, T], padded on the right.
            lengths: [B], entries that count.
            slots: rows [R, D] and for each entry the number of its row [B, T]; None leaves rows out.
        """
        words, numbers = self.words[entries].unique(return_inverse=True)  # [V], [B, T, P]
        columns = torch.arange(self.words.shape[1], device=entries.device)
        kept = columns < self.counts[entries].unsqueeze(-1)  # [B, T, P]
        rows = embedding(words)
        if slots is not None:
            own, places = slots
            numbers = torch.cat([numbers, places.unsqueeze(-1) + len(words)], dim=-1)
            kept = torch.cat([kept, kept.new_ones(*places.shape, 1)], dim=-1)
            rows = torch.cat([rows, own.to(rows.dtype)])
        there = torch.arange(entries.shape[1], device=entries.device) < lengths.unsqueeze(1)  # [B, T]
        return Filling(rows, *_compacted(numbers.flatten(1), (kept & there.unsqueeze(-1)).flatten(1)))


def _compacted(numbers: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The kept numbers of every line in their order, on the left. `[B, L], [B, L] -> [B, W], [B]`"""
    lengths = kept.sum(1)
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(lengths.max())]
    return numbers.gather(1, order), lengths
