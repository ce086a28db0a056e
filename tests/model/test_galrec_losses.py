"""GAL-Rec's losses and gradients against the plain way: one padded pass a view, loops over queues."""

import copy
import math
from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.model.galrec import GALRecSettings
from recbole_llmgraph.model.galrec_contrast import Contrast, ContrastPlan
from recbole_llmgraph.model.galrec_views import Pairs
from recbole_llmgraph.suite.run import make_model

#: Anchor, positive and negatives of every term, as SPEC 2.4 writes the losses.
TERMS = {
    "L1": [("u2", "u0", "u0"), ("i2", "i0", "i0")],
    "L2": [("i1", "u2", "u2"), ("u1", "i2", "i2")],
    "L3": [("i1", "u0", "u0"), ("u1", "i0", "i0")],
}
#: Eq. 14.
TWO_HOP = {**TERMS, "L1": [("u2", "u0", "u2"), ("i2", "i0", "i2")]}
ALL = ["u0", "u1", "u2", "i0", "i1", "i2"]


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


class Loops:
    """Contrastive losses with queues that are lists of (id, encoding)."""

    def __init__(self, options: Any) -> None:
        self.options = options
        self.queues = {view: deque(maxlen=options.queue_length) for view in ("u0", "u2", "i0", "i2")}

    def weights(self) -> dict[str, float]:
        o = self.options
        found = {"L1": o.lambda_1, "L2": o.lambda_2, "L3": o.lambda_3}
        if o.hops == 1:
            found = {"L3": o.lambda_3}
        return {name: weight for name, weight in found.items() if name != o.drop and o.gal}

    def terms(self) -> list[tuple[float, str, str, str]]:
        table = TERMS if self.options.l1_negatives == "zero_hop" else TWO_HOP
        return [(weight, *term) for name, weight in self.weights().items() for term in table[name]]

    def value(self, users: list[int], items: list[int], query: Any, memory: Any) -> float:
        """Weighted sum of the losses in Python floats; the queues stay as they are."""
        positives = query if self.options.positives == "query" else memory
        total = 0.0
        for weight, anchor, positive, queue in self.terms():
            own = users if queue[0] == "u" else items
            sums = 0.0
            for row, one in enumerate(own):
                asked = query[anchor][row].tolist()
                right = math.exp(cosine(asked, positives[positive][row].tolist()) / self.options.tau)
                others = [
                    math.exp(cosine(asked, kept) / self.options.tau)
                    for name, kept in self.queues[queue]
                    if name != one
                ]
                sums -= math.log(right / (right + sum(others)))
            total += weight * sums / len(own)
        return total

    def traced(self, users: list[int], items: list[int], query: Any, memory: Any) -> Tensor:
        """The same through which gradients flow."""
        positives = query if self.options.positives == "query" else memory
        total = torch.zeros(())
        for weight, anchor, positive, queue in self.terms():
            own = users if queue[0] == "u" else items
            for row, one in enumerate(own):
                kept = [torch.tensor(entry) for name, entry in self.queues[queue] if name != one]
                keys = torch.stack([positives[positive][row], *kept])
                sims = F.cosine_similarity(query[anchor][row].unsqueeze(0), keys) / self.options.tau
                total = total + weight * (sims.logsumexp(0) - sims[0]) / len(own)
        return total

    def push(self, users: list[int], items: list[int], memory: Any) -> None:
        for view, ring in self.queues.items():
            ring.extend(zip(users if view[0] == "u" else items, memory[view].tolist(), strict=True))


# ---- the losses alone


def plan_of(options: GALRecSettings) -> ContrastPlan:
    return options.plan()


CASES: dict[str, dict[str, Any]] = {
    "momentum": {},
    "query": {"positives": "query"},
    "two_hop": {"l1_negatives": "two_hop"},
    "no L1": {"drop": "L1"},
    "no L2": {"drop": "L2"},
    "no L3": {"drop": "L3", "positives": "query"},
    "one hop": {"hops": 1},
    "no queue": {"queue_length": 0},
    "one slot": {"queue_length": 1},
    "weights": {"lambda_1": 0.5, "lambda_2": 0.02, "lambda_3": 1.5, "tau": 0.05},
}


@pytest.mark.parametrize("sizes", [[3, 3, 3, 3], [1, 1, 1, 1, 1], [4, 1, 11, 2]], ids=["3", "1", "mixed"])
@pytest.mark.parametrize("case", CASES)
def test_the_sum_of_losses_equals_loops(case: str, sizes: list[int]) -> None:
    """Batch after batch: empty queues, full ones, a batch longer than the ring; ids come again."""
    options = GALRecSettings(**{"queue_length": 7, **CASES[case]})
    plan, loops = options.plan(), Loops(options)
    contrast, rng = Contrast(nn.Linear(1, 1), plan, 5), np.random.default_rng(0)
    torch.manual_seed(0)
    seen = []
    for size in sizes:
        users, items = (torch.from_numpy(rng.integers(1, 5, size)) for _ in range(2))
        query = {view: torch.randn(size, 5) for view in ALL}
        memory = {view: torch.randn(size, 5) for view in ALL}
        pairs = Pairs(users, users, users, items, users)
        found = contrast(pairs, query, memory)
        seen.append(float(found))
        assert seen[-1] == pytest.approx(loops.value(users.tolist(), items.tolist(), query, memory), rel=1e-5)
        loops.push(users.tolist(), items.tolist(), memory)
    assert seen[0] == 0  # nothing to tell the positive from yet
    assert any(seen) == (options.queue_length > 0)


def test_empty_plans() -> None:
    """Switches that leave no loss leave no terms, so that neither copy nor queues are made."""
    for options in ({"gal": False}, {"hops": 1, "drop": "L3"}, {"lambda_1": 0, "lambda_2": 0, "lambda_3": 0}):
        assert GALRecSettings(**options).plan().terms == []


@pytest.mark.parametrize(
    ("options", "query", "memory"),
    [
        ({}, "i1 i2 u1 u2", "i0 i2 u0 u2"),
        ({"positives": "query"}, "i0 i1 i2 u0 u1 u2", "i0 i2 u0 u2"),
        ({"hops": 1}, "i1 u1", "i0 u0"),
        ({"drop": "L2"}, "i1 i2 u1 u2", "i0 u0"),
        ({"drop": "L2", "l1_negatives": "two_hop"}, "i1 i2 u1 u2", "i0 i2 u0 u2"),
        ({"drop": "L1", "lambda_3": 0}, "i1 u1", "i2 u2"),
    ],
)
def test_no_view_is_encoded_in_vain(options: dict[str, Any], query: str, memory: str) -> None:
    plan = GALRecSettings(**options).plan()
    assert plan.query_views == query.split()
    assert plan.memory_views == memory.split()


def test_four_queues_at_most() -> None:
    assert set(Contrast(nn.Linear(1, 1), GALRecSettings().plan(), 3).queues) == {"u0", "u2", "i0", "i2"}
    assert set(Contrast(nn.Linear(1, 1), GALRecSettings(hops=1).plan(), 3).queues) == {"u0", "i0"}
    assert not Contrast(nn.Linear(1, 1), GALRecSettings(queue_length=0).plan(), 3).queues


@pytest.mark.parametrize("positives", ["momentum", "query"])
def test_gradients_reach_anchors_and_query_positives_alone(positives: str) -> None:
    options = GALRecSettings(positives=positives, queue_length=8)
    contrast = Contrast(nn.Linear(1, 1), options.plan(), 5)
    torch.manual_seed(0)
    ids = torch.arange(1, 4)
    pairs, later = Pairs(ids, ids, ids, ids, ids), Pairs(ids + 3, ids, ids, ids + 3, ids)
    contrast(pairs, *({view: torch.randn(3, 5) for view in ALL} for _ in range(2)))
    query = {view: torch.randn(3, 5, requires_grad=True) for view in ALL}
    contrast(later, query, {view: torch.randn(3, 5) for view in ALL}).backward()
    reached = {view for view in ALL if query[view].grad is not None and query[view].grad.any()}
    assert reached == ({"u1", "u2", "i1", "i2"} if positives == "momentum" else set(ALL))
    assert not any(buffer.requires_grad for buffer in contrast.buffers())


def test_queues_hold_unit_encodings_of_the_momentum_copy_under_their_ids() -> None:
    for positives in ("momentum", "query"):
        options = GALRecSettings(positives=positives, queue_length=4)
        contrast = Contrast(nn.Linear(1, 1), options.plan(), 5)
        users, items = torch.tensor([3, 4]), torch.tensor([8, 9])
        memory = {view: torch.randn(2, 5) for view in ALL}
        contrast(Pairs(users, users, users, items, users), {v: torch.randn(2, 5) for v in ALL}, memory)
        for view, ring in contrast.queues.items():
            assert ring.ids.tolist() == [*(users if view[0] == "u" else items).tolist(), -1, -1]
            torch.testing.assert_close(ring.rows[:2], F.normalize(memory[view], dim=1))


# ---- the whole loss of a model


class PlainWay:
    """GALRec's loss as SPEC 2 tells it: every view padded and read by transformers' own encoder."""

    def __init__(self, model: Any) -> None:
        self.model, self.options = model, model.options
        self.loops = Loops(model.options)
        self.slow = copy.deepcopy(model.reader)  # the momentum copy, a whole network of its own

    def follow(self) -> None:
        m = self.options.momentum
        with torch.no_grad():
            for own, trained in zip(self.slow.parameters(), self.model.reader.parameters(), strict=True):
                own.copy_(m * own + (1 - m) * trained)

    def g(self, reader: Any, rows: Tensor) -> Tensor:
        mapping = reader.external.mapping
        return (rows @ mapping.weight.T + mapping.bias) * reader.external.scale

    def owners(self, reader: Any, pairs: Pairs) -> Tensor:
        """External rows of the users themselves. `[B, d1]`"""
        external = reader.external
        if self.options.user_row == "static":
            return external.users[pairs.users]
        found = []
        for row, target in enumerate(pairs.targets.tolist()):
            before = [item for item in pairs.history[row, : pairs.lengths[row]].tolist() if item != target]
            total = sum((external.items[item] for item in before), torch.zeros(external.items.shape[1]))
            found.append(total / max(1, len(before)))
        return torch.stack(found)

    def prompt(self, reader: Any, view: str, row: int, named: dict[str, Tensor], filled: Any) -> Tensor:
        """Input rows of one prompt. `[T, D]`"""
        prompt = self.model.views.prompts[view]
        texts = prompt.text.split(prompt.text_lengths)
        parts = [reader.words(texts[0])]
        for slot, text in zip(prompt.slots, texts[1:], strict=True):
            if slot == "self":
                parts.append(named["self"][row].unsqueeze(0))
            else:
                ids, counts = filled[view][slot]
                of_items = (view[0] == "u") == (slot in ("near", "further"))
                parts.append(named["items" if of_items else "users"][ids[row, : counts[row]]])
            parts.append(reader.words(text))
        return torch.cat(parts)

    def read(self, reader: Any, view: str, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        """One padded pass: states, mask and their masked mean."""
        filled, external = self.model.views.neighbours(pairs, [view]), reader.external
        own = self.owners(reader, pairs) if view[0] == "u" else external.items[pairs.targets]
        rows = {"items": external.items, "users": external.users, "self": own}
        named = {name: self.g(reader, part) for name, part in rows.items()}
        prompts = [self.prompt(reader, view, row, named, filled) for row in range(len(pairs.users))]
        embeds = nn.utils.rnn.pad_sequence(prompts, batch_first=True)
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        mask = torch.arange(embeds.shape[1]) < lengths.unsqueeze(1)
        states = reader.encoder(inputs_embeds=embeds, attention_mask=mask.long()).last_hidden_state
        mean = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        return states, mask, mean

    def next_item(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """L0 and E_u^2."""
        model = self.model
        states, mask, mean = self.read(model.reader, "u2", pairs)
        start = torch.zeros(len(mask), 1, dtype=torch.long)
        decoded = model.decoder(
            input_ids=start, encoder_hidden_states=states, encoder_attention_mask=mask.long()
        ).last_hidden_state[:, 0]
        width = decoded.shape[1]
        if self.options.item_out == "free":
            items = decoded @ model.item_rows.T
        else:
            items = decoded @ self.g(model.reader, model.reader.external.items).T / width**0.5
        text = decoded @ model.reader.words.weight.T / width**0.5  # tied: T5 scales the state
        logits = items[:, 1:] if self.options.loss_vocab == "items" else torch.cat([items[:, 1:], text], 1)
        return F.cross_entropy(logits, pairs.targets - 1), mean

    def loss(self, pairs: Pairs, chosen: Tensor) -> Tensor:
        total, whole = self.next_item(pairs)
        if not self.loops.weights():
            return total
        some = pairs.at(chosen)
        query = {view: self.read(self.model.reader, view, some)[2] for view in ALL if view != "u2"}
        query["u2"] = whole[chosen]
        with torch.no_grad():
            memory = {view: self.read(self.slow, view, some)[2] for view in ALL if view[1] != "1"}
        who = some.users.tolist(), some.targets.tolist()
        total = total + self.loops.traced(*who, query, memory)
        self.loops.push(*who, memory)
        return total


WHOLE: dict[str, dict[str, Any]] = {
    "momentum": {},
    "query, trained vectors": {
        "positives": "query", "loss_vocab": "items", "external": "trainable", "rescale": False,
    },
    "two_hop, free, static": {
        "l1_negatives": "two_hop", "item_out": "free", "user_row": "static", "gal_rows": 0,
    },
    "one hop": {"hops": 1, "wording": "sentences"},
    "no GAL": {"gal": False},
}  # fmt: skip
MORE: dict[str, dict[str, Any]] = {
    "three hops, no L1": {"hops": 3, "drop": "L1"},
    "no queue": {"queue_length": 0},
    "no L3, query": {"drop": "L3", "positives": "query"},
}


def model_of(workshop: Any, **changes: Any) -> tuple[Any, Any]:
    settings = {"text_encoder": "tfidf:16", "queue_length": 6, "gal_rows": 4, "momentum": 0.6, **changes}
    cell = workshop.provided(workshop.cell("GALRec", **settings))
    split = workshop.split(cell)
    return split, make_model(cell, split)


@pytest.mark.parametrize("case", [*WHOLE, *(pytest.param(case, marks=pytest.mark.slow) for case in MORE)])
def test_loss_and_gradients_equal_the_plain_way(case: str, workshop: Any) -> None:
    """Three micro-batches, two to a step: queues fill and wrap, and the copy lags behind."""
    split, model = model_of(workshop, **(WHOLE | MORE)[case])
    model.eval()  # no dropout; what is computed is the same
    plain = PlainWay(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    rows = np.random.default_rng(4).integers(0, len(split.train._dataset), (3, 6))
    for number, batch in enumerate(rows):
        interaction = split.train.collate_fn(batch)
        chosen = torch.randperm(6)[: model.options.gal_rows or 6]
        model._contrasted = lambda count, chosen=chosen: chosen
        pairs = model._pairs(interaction, interaction["item_id"], model.epoch)
        ours, theirs = model.calculate_loss(interaction), plain.loss(pairs, chosen)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        weights = list(model.parameters())
        found = [torch.autograd.grad(loss, weights, allow_unused=True) for loss in (ours, theirs)]
        for weight, mine, other in zip(weights, *found, strict=True):
            mine, other = (torch.zeros_like(weight) if grad is None else grad for grad in (mine, other))
            assert float((mine - other).norm()) <= 3e-4 * max(0.1, float(other.norm()))
            weight.grad = mine
        if number % 2:
            optimiser.step()
            model.end_step()
            plain.follow()
    if model.plan.terms and model.options.queue_length:
        assert all(len(ring) == 6 for ring in model.contrast.queues.values())


def test_every_weight_that_is_read_learns_and_the_copy_does_not(workshop: Any) -> None:
    split, model = model_of(workshop)
    for batch in (range(8), range(30, 38)):
        model.zero_grad()
        model.calculate_loss(split.train.collate_fn(list(batch))).backward()
    # One token attends to itself: nothing is asked in the decoder's own attention, no position told.
    own = [f"0.SelfAttention.{part}" for part in ("q.", "k.", "relative_attention_bias.")]
    names = [f"decoder.{name}" for name, _ in model.decoder.named_parameters()]
    idle = {name for name in names if any(part in name for part in own)}
    still = {name for name, w in model.named_parameters() if w.grad is None or not w.grad.any()}
    assert still == idle
    assert not any(name.startswith("contrast.") for name, _ in model.named_parameters())
    assert all(buffer.grad is None and not buffer.requires_grad for buffer in model.buffers())


def test_rows_to_contrast_are_drawn_from_all() -> None:
    from recbole_llmgraph.model.galrec import GALRec

    counts = torch.zeros(10)
    for rows, expected in ((4, 4), (0, 10), (99, 10)):
        told = SimpleNamespace(options=SimpleNamespace(gal_rows=rows), device="cpu")
        for _ in range(200):
            chosen = GALRec._contrasted(told, 10)  # type: ignore[arg-type]
            assert len(chosen) == expected == len(set(chosen.tolist()))
            if rows == 4:
                counts[chosen] += 1
    assert float((counts - 80).abs().max()) < 5 * math.sqrt(200 * 0.4 * 0.6)
