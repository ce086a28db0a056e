"""Slot prompts: text with places for rows, e.g. `Purchases: {items} Next:`.

The text is tokenised once. Users and items are rows of the caller's table, so the
tokenizer never grows, and a batch is as long as its own longest prompt.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.base.errors import UserError

Bos = Literal["once", "release", "none"]
Side = Literal["left", "right"]


@dataclass(frozen=True)
class PromptBatch:
    """Prompts of one batch. B prompts, T tokens of the longest, D width, k prefix rows.

    Attributes:
        inputs_embeds: [B, T, D]; zero rows at padding.
        mask: [B, T], true at tokens.
        prefix_length: k.
    """

    inputs_embeds: Tensor
    mask: Tensor
    prefix_length: int = 0

    @property
    def attention_mask(self) -> Tensor:
        """[B, k + T], 1 at prefix rows and tokens, 0 at padding: transformers' form."""
        return F.pad(self.mask, (self.prefix_length, 0), value=True).long()

    @property
    def position_ids(self) -> Tensor:
        """[B, T]; the first token of every prompt stands at k."""
        return (self.mask.long().cumsum(1) - 1).clamp_min(0) + self.prefix_length

    @property
    def causal_mask(self) -> Tensor:
        """[B, 1, T, k + T], true where a token (row) may look (column).

        Every row may look at itself, padding too: a row without any key would be NaN.
        """
        batch, length = self.mask.shape
        causal = torch.ones(length, length, dtype=torch.bool, device=self.mask.device).tril()
        own = torch.eye(length, dtype=torch.bool, device=self.mask.device)
        tokens = (causal & self.mask.unsqueeze(1)) | own  # [B, T, T]
        return F.pad(tokens, (self.prefix_length, 0), value=True).view(batch, 1, length, -1)

    @property
    def last(self) -> Tensor:
        """[B], column of every prompt's last token."""
        columns = torch.arange(self.mask.shape[1], device=self.mask.device)
        return (columns * self.mask).argmax(1)


class SlotPrompt(nn.Module):
    """A template with named list slots, tokenised once.

    Args:
        template: text with `{name}` slots, each used once; outer blanks of every text piece
            are dropped.
        tokenizer: of the backbone.
        bos: begin-of-sequence token `once` at the start; before every text piece (`release`:
            HeLLM's released code puts a second one before the response); or `none`.
        eos: end-of-sequence token at the end, as T5's encoder expects.

    Attributes:
        slots: names of the slots in order.

    Raises:
        UserError: when a slot is named twice, or `bos` is asked of a tokenizer without one.
    """

    text: Tensor

    def __init__(self, template: str, tokenizer: Any, *, bos: Bos = "once", eos: bool = False) -> None:
        super().__init__()
        if bos != "none" and tokenizer.bos_token_id is None:
            raise UserError(f"bos: {bos} asks for a token that this tokenizer lacks; set bos: none")
        pieces = re.split(r"\{(\w+)\}", template)
        self.slots = pieces[1::2]
        if len(set(self.slots)) < len(self.slots):
            raise UserError(f"prompt template names a slot twice: {', '.join(self.slots)}; name each once")
        pieces[0::2] = [piece.strip() for piece in pieces[0::2]]
        ids = [tokenizer(piece, add_special_tokens=False).input_ids for piece in pieces[0::2]]
        for place, piece in enumerate(ids):
            if (bos == "once" and place == 0) or (bos == "release" and (place == 0 or piece)):
                piece.insert(0, tokenizer.bos_token_id)
        if eos:
            ids[-1].append(tokenizer.eos_token_id)
        #: Number of tokens of the text before, between and after the slots.
        self.text_lengths = [len(piece) for piece in ids]
        self.register_buffer("text", torch.tensor(list(chain(*ids)), dtype=torch.long), persistent=False)

    def forward(
        self,
        embedding: nn.Embedding,
        rows: Tensor,
        fillings: Mapping[str, tuple[Tensor, Tensor]],
        *,
        prefix_length: int = 0,
        side: Side = "left",
    ) -> PromptBatch:
        """Fill the slots.

        Args:
            embedding: the backbone's text rows.
            rows: [R, D], e.g. the batch's distinct items; cast to the text rows' dtype.
            fillings: for each slot, numbers of rows [B, L] and how many of each line count [B].
            prefix_length: k, length of the key/value prefix that comes before.
            side: where padding stands.
        """
        if set(fillings) != set(self.slots):
            raise ValueError(f"slots are {self.slots}, fillings {sorted(fillings)}")
        text = embedding(self.text)  # [t, D]
        blank = text.new_zeros(1, text.shape[1])
        table = torch.cat([blank, text, rows.to(text.dtype)])
        index = self.index(fillings, side=side)
        return PromptBatch(F.embedding(index, table), index > 0, prefix_length)

    def index(
        self,
        fillings: Mapping[str, tuple[Tensor, Tensor]],
        *,
        first_text: int = 1,
        first_row: int | None = None,
        side: Side = "left",
    ) -> Tensor:
        """Numbers [B, T] in a table that holds this prompt's text and the rows; 0 at padding.

        Args:
            fillings: as in `forward`.
            first_text: where the text begins in the table.
            first_row: where the rows begin; right after the text unless told.
            side: where padding stands.
        """
        if first_row is None:
            first_row = first_text + len(self.text)
        pieces = self._pieces(fillings, first_text, first_row)
        total = torch.stack([length for _, length in pieces]).sum(0)  # [B]
        longest = int(total.max())
        start = longest - total if side == "left" else torch.zeros_like(total)
        # Column `longest` takes what is cut off.
        index = total.new_zeros(len(total), longest + 1)
        for numbers, length in pieces:
            offset = torch.arange(numbers.shape[1], device=total.device)
            column = torch.where(offset < length[:, None], start[:, None] + offset, longest)
            index.scatter_(1, column, numbers)
            start = start + length
        return index[:, :longest]

    def _pieces(
        self, fillings: Mapping[str, tuple[Tensor, Tensor]], begin: int, first_row: int
    ) -> list[tuple[Tensor, Tensor]]:
        """Text and slots in order: table rows [B, L] and lengths [B]."""
        counts = next(iter(fillings.values()))[1]
        batch = len(counts)
        pieces = []
        for place, size in enumerate(self.text_lengths):
            numbers = torch.arange(begin, begin + size, device=counts.device)
            pieces.append((numbers.expand(batch, -1), counts.new_full((batch,), size)))
            begin += size
            if place < len(self.slots):
                filling, lengths = fillings[self.slots[place]]
                pieces.append((filling + first_row, lengths))
        return pieces
