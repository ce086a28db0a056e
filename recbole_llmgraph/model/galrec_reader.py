"""What GAL-Rec trains twice, once by gradients and once by momentum: external vectors, mapping, encoder."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.lm.quick import QuickLinear
from recbole_llmgraph.lm.t5 import encode
from recbole_llmgraph.model.galrec_views import Pairs, Reading

UserRow = Literal["history", "static", "none"]


class ExternalVectors(nn.Module):
    """External vectors of items and users, mapped to the width of text rows (SPEC 2.1).

    `g(h) = scale * Linear(h)`, the identity in place of `Linear` where widths agree; `scale` brings the
    items' mapped rows to the size (root mean square) of text rows.

    Args:
        items: h of every item, padding zero. `[N, d1]`
        users: h of every user, padding zero. `[U, d1]`
        text: the backbone's text rows. `[V, D]`
        user_row: `history` puts the mean of the items before the target in place of the row of the user
            whom a prompt is about; `static` reads her row of `users`; `none` leaves zeros.
        trainable: whether h is trained.
        rescale: whether to scale.
    """

    scale: Tensor
    items: Tensor
    users: Tensor

    def __init__(
        self, items: Tensor, users: Tensor, text: Tensor, user_row: UserRow, *, trainable: bool, rescale: bool
    ) -> None:
        super().__init__()
        self.user_row = user_row
        width = text.shape[1]
        self.mapping = QuickLinear(items.shape[1], width) if items.shape[1] != width else nn.Identity()
        for name, rows in (("items", items), ("users", users)):
            if trainable:
                self.register_parameter(name, nn.Parameter(rows.clone()))
            else:
                self.register_buffer(name, rows, persistent=False)
        self.register_buffer("scale", torch.ones(()))
        if rescale:
            with torch.no_grad():
                self.scale = _size(text) / _size(self.mapping(items[1:])).clamp_min(1e-12)

    def forward(self, rows: Tensor) -> Tensor:
        """g(h). `[..., d1]` to `[..., D]`"""
        mapped: Tensor = self.mapping(rows) * self.scale
        return mapped

    def mapped_items(self) -> Tensor:
        """g(h) of every item. `[N, D]`"""
        mapped: Tensor = self(self.items)
        return mapped

    def owners(self, pairs: Pairs) -> Tensor:
        """External rows of the users whom prompts are about. `[B, d1]`"""
        match self.user_row:
            case "history":
                place = torch.arange(pairs.history.shape[1], device=pairs.history.device)
                before = (place < pairs.lengths.unsqueeze(1)) & (pairs.history != pairs.targets.unsqueeze(1))
                rows = F.embedding(pairs.history, self.items) * before.unsqueeze(-1)
                return rows.sum(1) / before.sum(1, keepdim=True).clamp_min(1)
            case "static":
                return F.embedding(pairs.users, self.users)
            case "none":
                return self.items.new_zeros(len(pairs.users), self.items.shape[1])


class Reader(nn.Module):
    """Encodes prompts: everything of which GAL-Rec keeps a momentum copy.

    Args:
        backbone: `T5ForConditionalGeneration`.
        external: of users and items.
        text: token ids of all prompts. `[t]`
    """

    text: Tensor

    def __init__(self, backbone: Any, external: ExternalVectors, text: Tensor) -> None:
        super().__init__()
        self.words, self.encoder, self.external = backbone.shared, backbone.encoder, external
        self.register_buffer("text", text, persistent=False)

    def forward(self, reading: Reading) -> list[tuple[Tensor, Tensor]]:
        """For every pass, states of the line of tokens `[T, D]` and the prompts' means `[S, D]`."""
        table = self._table(reading)
        found = []
        for packed in reading.packs:
            states = encode(self.encoder, F.embedding(packed.rows, table), packed)
            found.append((states.float(), packed.means(states.float())))
        return found

    def _table(self, reading: Reading) -> Tensor:
        """Rows that the prompts of a step are made of, each computed once. `[R, D]`"""
        external, words = self.external, self.words(self.text)
        vectors = torch.cat(
            [
                F.embedding(reading.items, external.items),
                F.embedding(reading.users, external.users),
                *map(external.owners, reading.owners),
            ]
        )
        blank = words.new_zeros(1, words.shape[1])
        return torch.cat([blank, words, external(vectors).to(words.dtype)])


def _size(rows: Tensor) -> Tensor:
    """Root mean square."""
    return rows.detach().float().square().mean().sqrt()


def mean_rows(rows: Tensor, users: Tensor, items: Tensor, n_users: int) -> Tensor:
    """Mean over every user's training items. Rows `[N, d1]` to `[U, d1]`"""
    total = rows.new_zeros(n_users, rows.shape[1]).index_add_(0, users, rows[items])
    return total / torch.bincount(users, minlength=n_users).clamp_min(1).unsqueeze(1)
