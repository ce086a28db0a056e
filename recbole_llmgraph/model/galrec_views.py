"""GAL-Rec's prompts: views of a (user, item) pair at zero, one and two hops (SPEC 2.3).

    u0  User {user}.                          i0  Item {item}.
    u1  ... interacted with items {items}.    i1  ... was chosen by users {users}.
    u2  ... Users {users} interacted ...      i2  ... The users interacted with items {items}.

One-hop items of a user are her history before the target; everything else comes from training edges. The
pair's own edge is in none of the views: not the target in the history, not the user among the item's users,
neither of them among the second hop that starts at the other.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.graph.neighbours import NeighbourSampler, distinct, mix_keys
from recbole_llmgraph.lm.packed import Packed, pack
from recbole_llmgraph.lm.slots import SlotPrompt

View = Literal["u0", "u1", "u2", "i0", "i1", "i2"]
Filling = tuple[Tensor, Tensor]

#: The wording is ours: the paper shows its own as a picture.
SENTENCES = {
    "user": "User {self}",
    "items": " interacted with items {near}",
    "users": ". Users {far} interacted with the same items",
    "more": ". They also interacted with items {further}",
    "question": ". Which item will the user choose next?",
    "item": "Item {self}",
    "item_users": " was chosen by users {near}",
    "item_items": ". The users interacted with items {far}",
}
#: One mark in place of each phrase, for backbones to which words mean nothing.
MARKS = {
    "user": "u {self}",
    "items": " i {near}",
    "users": " u {far}",
    "more": " i {further}",
    "question": " ?",
    "item": "i {self}",
    "item_users": " u {near}",
    "item_items": " i {far}",
}
WORDINGS = {"sentences": SENTENCES, "marks": MARKS}


@dataclass(frozen=True)
class Caps:
    """How many neighbours a prompt names.

    Attributes:
        items: one-hop items of a user.
        users: one-hop users of an item.
        per_neighbour: second-order neighbours drawn of each first-order one.
        second: second-order neighbours in all.
    """

    items: int
    users: int
    per_neighbour: int
    second: int

    def tokens(self, hops: int) -> int:
        """Most slots that a prompt fills."""
        return 1 + max(self.items, self.users) + self.second * (hops - 1)


@dataclass(frozen=True)
class Pairs:
    """Rows to be put into words. B rows, T items of the longest history.

    Attributes:
        users: `[B]`.
        history: items before the target, oldest first, 0 on the right. `[B, T]`
        lengths: `[B]`.
        targets: the next item; 0 where it is not known. `[B]`
        keys: randomness of each row. `[B]`
    """

    users: Tensor
    history: Tensor
    lengths: Tensor
    targets: Tensor
    keys: Tensor

    def at(self, rows: Tensor) -> "Pairs":
        """Some of the rows."""
        return Pairs(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


#: Rows and the views that are written for each of them.
Job = tuple[Pairs, list[View]]


@dataclass(frozen=True)
class Reading:
    """Prompts ready for an encoder: rows of a table `[blank; text; items; users; owners]`.

    Attributes:
        items: ids of the items named. `[I]`
        users: ids of the other users named. `[V]`
        owners: rows of all jobs, for the vectors of the users whom the prompts are about.
        packs: prompts of each job: all rows of its first view, then of its second, and so on.
    """

    items: Tensor
    users: Tensor
    owners: list[Pairs]
    packs: list[Packed]


class Views(nn.Module):
    """Draws neighbours and writes prompts.

    Args:
        users: user of every training interaction. `[E]`
        items: its item. `[E]`
        sizes: users and items, padding included.
        tokenizer: of the backbone.
        caps: how many neighbours are named.
        hops: 1, 2 or 3; the last view of a user reaches that far, an item's two at most.
        wording: key of `WORDINGS`.
    """

    text: Tensor

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        sizes: tuple[int, int],
        tokenizer: Any,
        caps: Caps,
        hops: int,
        wording: str,
    ) -> None:
        super().__init__()
        self.caps, self.hops = caps, hops
        self.users_of = NeighbourSampler(items, users, sizes[1])
        self.items_of = NeighbourSampler(users, items, sizes[0])
        self.prompts = nn.ModuleDict(
            {
                view: SlotPrompt(template, tokenizer, bos="none", eos=True)
                for view, template in _templates(hops, WORDINGS[wording]).items()
            }
        )
        texts = [self._prompt(view).text for view in self.prompts]
        #: Where each prompt's text begins in the table; row 0 is blank.
        self.first_text = dict(
            zip(self.prompts, torch.tensor([1, *map(len, texts)]).cumsum(0).tolist(), strict=False)
        )
        self.register_buffer("text", torch.cat(texts), persistent=False)

    def _prompt(self, view: str) -> SlotPrompt:
        prompt = self.prompts[view]
        assert isinstance(prompt, SlotPrompt)
        return prompt

    def check(self, max_length: int) -> None:
        """Refuse to write prompts that may take more tokens than allowed."""
        text = max(len(self._prompt(view).text) for view in self.prompts)
        if (longest := text + self.caps.tokens(self.hops)) > max_length:
            raise UserError(
                f"GALRec.max_length={max_length}: a prompt may take {longest} tokens; "
                "lower hop2_cap or hop1_items, or raise max_length"
            )

    def neighbours(self, pairs: Pairs, views: list[View]) -> dict[View, dict[str, Filling]]:
        """What fills the slots of every wanted view; `self` is left to `read`."""
        found: dict[View, dict[str, Filling]] = {}
        if any(view[0] == "u" for view in views):
            found |= self._around_users(pairs)
        if any(view[0] == "i" for view in views):
            found |= self._around_items(pairs)
        return {view: found[view] for view in found if view in views}

    def _around_users(self, pairs: Pairs) -> dict[View, dict[str, Filling]]:
        near = _recent(pairs, self.caps.items)
        one: dict[str, Filling] = {"near": near}
        if self.hops == 1:
            return {"u0": {}, "u1": one, "u2": one}
        far = self._second(self.users_of, near[0], pairs.keys, 1, pairs.users)
        two = one | {"far": far}
        if self.hops == 3:
            two["further"] = self._second(self.items_of, far[0], pairs.keys, 2)
        return {"u0": {}, "u1": one, "u2": two}

    def _around_items(self, pairs: Pairs) -> dict[View, dict[str, Filling]]:
        users = self.users_of(pairs.targets, self.caps.users, mix_keys(pairs.keys, 3), pairs.users)
        near = users, (users > 0).sum(1)
        one: dict[str, Filling] = {"near": near}
        if self.hops == 1:
            return {"i0": {}, "i1": one, "i2": one}
        far = self._second(self.items_of, users, pairs.keys, 4, pairs.targets)
        return {"i0": {}, "i1": one, "i2": one | {"far": far}}

    def _second(
        self,
        sampler: NeighbourSampler,
        nodes: Tensor,
        keys: Tensor,
        role: int,
        excluded: Tensor | None = None,
    ) -> Filling:
        """Neighbours of neighbours, each once. Nodes `[B, W]`; `excluded` `[B]` is never among them."""
        k = self.caps.per_neighbour
        row_keys = mix_keys(keys, role)
        apart = None if excluded is None else excluded.unsqueeze(1).expand_as(nodes).flatten()
        drawn = sampler(nodes.flatten(), k, mix_keys(row_keys.unsqueeze(1), nodes).flatten(), apart)
        return distinct(drawn.view(len(nodes), -1), self.caps.second, row_keys)

    def read(self, jobs: list[Job]) -> Reading:
        """Write prompts; each job becomes a pass of the encoder."""
        filled = [self.neighbours(pairs, views) for pairs, views in jobs]
        slots = [
            (_holds_items(view, slot), ids)
            for views in filled
            for view, fillings in views.items()
            for slot, (ids, _) in fillings.items()
        ]
        items = _ids([pairs.targets for pairs, _ in jobs] + [ids for of_items, ids in slots if of_items])
        users = _ids([jobs[0][0].users[:0]] + [ids for of_items, ids in slots if not of_items])
        first_owner, packs = len(items) + len(users), []
        for (pairs, views), fillings in zip(jobs, filled, strict=True):
            packs.append(
                pack([self._index(view, pairs, fillings[view], items, users, first_owner) for view in views])
            )
            first_owner += len(pairs.users)
        return Reading(items, users, [pairs for pairs, _ in jobs], packs)

    def _index(
        self,
        view: View,
        pairs: Pairs,
        fillings: dict[str, Filling],
        items: Tensor,
        users: Tensor,
        first_owner: int,
    ) -> Tensor:
        """Table rows of one view's prompts. `[B, T]`"""
        numbers = {
            slot: (
                torch.searchsorted(items, ids)
                if _holds_items(view, slot)
                else len(items) + torch.searchsorted(users, ids),
                counts,
            )
            for slot, (ids, counts) in fillings.items()
        }
        if view[0] == "i":
            named = torch.searchsorted(items, pairs.targets)
        else:
            named = first_owner + torch.arange(len(pairs.users), device=items.device)
        numbers["self"] = named.unsqueeze(1), torch.ones_like(named)
        first_text, first_row = self.first_text[view], 1 + len(self.text)
        return self._prompt(view).index(numbers, first_text=first_text, first_row=first_row, side="right")


def _templates(hops: int, words: dict[str, str]) -> dict[str, str]:
    """Template of every view."""
    full = words["user"] + words["items"]
    if hops > 1:
        full += words["users"]
    if hops > 2:
        full += words["more"]
    item = words["item"] + words["item_users"]
    return {
        "u0": words["user"],
        "u1": words["user"] + words["items"],
        "u2": full + words["question"],
        "i0": words["item"],
        "i1": item,
        "i2": item + words["item_items"] if hops > 1 else item,
    }


def _holds_items(view: View, slot: str) -> bool:
    """Whether a slot names items: a user's neighbours are items, theirs are users, and so on."""
    return (view[0] == "u") == (slot in ("near", "further"))


def _recent(pairs: Pairs, cap: int) -> Filling:
    """The last `cap` items of each history, the target left out where it was met before. `[B, cap], [B]`"""
    place = torch.arange(pairs.history.shape[1], device=pairs.history.device)
    met = (place < pairs.lengths.unsqueeze(1)) & (pairs.history != pairs.targets.unsqueeze(1))
    after = met.flip(1).cumsum(1).flip(1)  # items from here to the end
    met &= after <= cap
    order = (~met).long().argsort(dim=1, stable=True)[:, :cap]
    return (pairs.history * met).gather(1, order), met.sum(1)


def _ids(parts: list[Tensor]) -> Tensor:
    """Different ids of all parts, sorted, padding first. `[n]`"""
    flat = torch.cat([part.flatten() for part in parts])
    different: Tensor = torch.cat([flat.new_zeros(1), flat]).unique()
    return different
