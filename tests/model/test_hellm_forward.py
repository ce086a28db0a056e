"""HeLLM's logits against the equations, one user, one token, one head at a time, in float64 (SPEC 3.2)."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_llmgraph.artifact.tables import load_table
from recbole_llmgraph.suite.run import make_model

RELEASE = {"head": "frozen", "standardise": False, "tuning": "lora", "bos": "release"}
PAPER = {"fidelity": "paper", "head": "trainable", "standardise": False, "tuning": "lora", "pooled_size": 5}
CASES: dict[str, dict[str, Any]] = {
    "built-in preset": {},
    "release": RELEASE,
    "paper": PAPER,
    "paper, all weights trained": {**PAPER, "tuning": "full", "standardise": True},
    "tied head": {"head": "tied"},
    "no_gnn_peft": {"prefix": "learned"},
    "no prefix": {"prefix": "none"},
    "no_gnn_id": {"use_graph_id": False},
    "no_seq_id": {"use_sequence_id": False},
    "no_seq_id, tied": {"use_sequence_id": False, "head": "tied", "standardise": False},
}
CHECKPOINTS = Path(__file__).resolve().parents[3] / "shared" / "lm"


def opened(workshop: Any, **changes: Any) -> tuple[Any, Any]:
    """Model whose every weight is away from its initial value, and its split; no dropout."""
    cell = workshop.provided(workshop.cell("HeLLM", **changes))
    split = workshop.split(cell)
    model = make_model(cell, split)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name or weight.dim() == 1:
                weight.add_(0.3 * noise)  # norms at one would hide one that is left out
            elif "lora_" in name or "learned" in name or "net." in name or "projection" in name:
                weight.add_(0.2 * noise)
    return model.eval(), split


class Slow:
    """The forward pass from the weights' names and the paper's equations alone."""

    def __init__(self, model: Any, settings: Any, tokens: list[str], tokenizer: Any) -> None:
        self.w = {name: weight.detach().double() for name, weight in model.state_dict().items()}
        self.o, self.config, self.tokens, self.tokenizer = settings, model.backbone.config, tokens, tokenizer
        # The final norm's size is taken out, as the backbone was opened (1 for a fresh one).
        self.scale = model.state_scale
        self.graph = self._table(settings.graph_embedding)
        self.sequence = self._table(settings.sequence_embedding)

    def _table(self, file: str) -> torch.Tensor:
        table = load_table(Path(file))
        rows = dict(zip(table.tokens, table.rows.double(), strict=True))
        found = torch.stack([rows[token] for token in self.tokens[1:]])
        if self.o.standardise:
            found = (found - found.mean(0)) / found.std(0, unbiased=True)
        return torch.cat([torch.zeros(1, found.shape[1], dtype=torch.double), found])

    def vector(self, item: int) -> torch.Tensor:
        parts = [self.graph[item]] * self.o.use_graph_id + [self.sequence[item]] * self.o.use_sequence_id
        return torch.cat(parts)

    def mlp(self, name: str, x: torch.Tensor, first: int) -> torch.Tensor:
        last = first + (3 if name.endswith("net") else 2)
        hidden = self.w[f"{name}.{first}.weight"] @ x + self.w[f"{name}.{first}.bias"]
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        return self.w[f"{name}.{last}.weight"] @ hidden + self.w[f"{name}.{last}.bias"]

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return x / torch.sqrt((x * x).mean() + eps) * weight

    def condition(self, items: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """p_K, p_V of one user (eq. 8-10)."""
        M: Any = 0
        for item in items:
            row = self.graph[item]
            if self.o.fidelity == "paper":
                row = self.w["pool_projection.weight"] @ row
            M = M + torch.outer(row, row)
        if self.o.standardise:
            M = M / (len(M) * len(items))
        flat = M.reshape(-1)
        found = []
        for net in ("key_net", "value_net"):
            x = self.norm(flat, self.w[f"{net}.0.weight"], 1e-6) if self.o.fidelity == "paper" else flat
            found.append(self.mlp(net, x, 1))
        return found[0], found[1]

    def prefix_rows(self, items: list[int], layer: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Prefix keys and values as attention of a layer sees them, heads side by side."""
        if self.o.prefix == "none":
            return [], []
        given = self.condition(items) if self.o.prefix == "graph" else (None, None)
        seen = []
        for name, p, projection in (("key", given[0], "k_proj"), ("value", given[1], "v_proj")):
            rows = []
            for learned in self.w[f"prefix.learned_{name}"][layer]:
                if self.o.fidelity == "paper":
                    rows.append(learned if p is None else learned + p)
                    continue
                inner = (
                    0 if p is None else self.norm(p, self.w[f"prefix.norms.condition_{name}.weight"], 1e-6)
                )
                row = self.norm(learned + inner, self.w[f"prefix.norms.row_{name}.weight"], 1e-6)
                rows.append(self.w[f"backbone.layers.{layer}.self_attn.{projection}.weight"] @ row)
            seen.append(rows)
        return seen[0], seen[1]

    def inputs(self, items: list[int]) -> list[torch.Tensor]:
        """[instruction][x_1 .. x_T][response] as rows."""
        bos, o = [self.tokenizer.bos_token_id], self.o
        before, after = (
            self.tokenizer(t, add_special_tokens=False).input_ids for t in (o.instruction, o.response)
        )
        after = bos * (o.bos == "release") + after
        embed = self.w["backbone.embed_tokens.weight"]
        middle = [self.mlp("item_projection", self.vector(item), 0) for item in items]
        return [embed[i] for i in bos + before] + middle + [embed[i] for i in after]

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if f"{name}.weight" in self.w:
            return self.w[f"{name}.weight"] @ x
        A, B = self.w[f"{name}.lora_A.default.weight"], self.w[f"{name}.lora_B.default.weight"]
        return self.w[f"{name}.base_layer.weight"] @ x + self.o.lora_alpha / self.o.lora_rank * (B @ (A @ x))

    def layer(self, number: int, states: list[torch.Tensor], items: list[int]) -> list[torch.Tensor]:
        c, at = self.config, f"backbone.layers.{number}"
        heads, shared = c.num_attention_heads, c.num_attention_heads // c.num_key_value_heads
        size = c.hidden_size // heads
        keys, values = self.prefix_rows(items, number)
        k = len(keys)
        normed = [self.norm(x, self.w[f"{at}.input_layernorm.weight"], c.rms_norm_eps) for x in states]
        q, ks, vs = ([self.linear(f"{at}.self_attn.{n}_proj", x) for x in normed] for n in "qkv")
        out = []
        for t in range(len(states)):
            mixed = []
            for h in range(heads):
                own, group = (
                    slice(h * size, (h + 1) * size),
                    slice(h // shared * size, (h // shared + 1) * size),
                )
                asked = self.rotate(q[t][own], k + t)
                seen = [key[group] for key in keys] + [self.rotate(ks[s][group], k + s) for s in range(t + 1)]
                told = [value[group] for value in values] + [vs[s][group] for s in range(t + 1)]
                weights = torch.softmax(torch.stack([asked @ key / math.sqrt(size) for key in seen]), 0)
                mixed.append(sum(w * value for w, value in zip(weights, told, strict=True)))
            x = states[t] + self.linear(f"{at}.self_attn.o_proj", torch.cat(mixed))
            n = self.norm(x, self.w[f"{at}.post_attention_layernorm.weight"], c.rms_norm_eps)
            gate = self.linear(f"{at}.mlp.gate_proj", n)
            up = self.linear(f"{at}.mlp.up_proj", n)
            out.append(x + self.linear(f"{at}.mlp.down_proj", gate * torch.sigmoid(gate) * up))
        return out

    def rotate(self, x: torch.Tensor, position: int) -> torch.Tensor:
        half = len(x) // 2
        base = self.config.rope_parameters["rope_theta"]
        angle = position * base ** (-2.0 * torch.arange(half, dtype=torch.double) / len(x))
        a, b = x[:half], x[half:]
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()])

    def logits(self, items: list[int]) -> torch.Tensor:
        """Scores of the items 1 .. N for one history."""
        states = self.inputs(items)
        for number in range(self.config.num_hidden_layers):
            states = self.layer(number, states, items)
        state = self.norm(states[-1], self.w["backbone.norm.weight"], self.config.rms_norm_eps) * self.scale
        real = range(1, len(self.tokens))
        if self.o.head in ("frozen", "trainable"):
            return torch.stack([self.w["score.weight"][item] @ state for item in real])
        if self.o.head == "tied":
            rows = [self.mlp("item_projection", self.vector(item), 0) for item in real]
            return torch.stack([row @ state / math.sqrt(len(state)) for row in rows])
        asked = self.w["score.weight"] @ state + self.w["score.bias"]
        return torch.stack([asked @ self.vector(item) for item in real])


def batch_of(split: Any, histories: list[list[int]]) -> Any:
    from recbole.data.interaction import Interaction

    rows = torch.zeros(len(histories), max(map(len, histories)) + 2, dtype=torch.long)  # padding nobody needs
    for row, history in zip(rows, histories, strict=True):
        row[: len(history)] = torch.tensor(history)
    return Interaction({"item_id_list": rows, "item_length": torch.tensor([len(h) for h in histories])})


HISTORIES = [[3, 9, 4], [17], [5, 5, 30, 2, 48]]


def check(model: Any, split: Any, rtol: float = 1e-4) -> None:
    tokenizer = opened_tokenizer(model)
    slow = Slow(model, model.options, split.item_tokens(), tokenizer)
    with torch.no_grad():
        found = model.full_sort_predict(batch_of(split, HISTORIES)).view(len(HISTORIES), -1)
    assert bool((found[:, 0] == -torch.inf).all())
    for row, history in zip(found, HISTORIES, strict=True):
        expected = slow.logits(history)
        torch.testing.assert_close(row[1:].double(), expected, rtol=rtol, atol=rtol * float(expected.std()))


def opened_tokenizer(model: Any) -> Any:
    from recbole_llmgraph.lm.backbone import open_backbone

    o = model.options
    texts = Path(o.item_texts).read_text("utf-8").splitlines() if o.item_texts else None
    return open_backbone(o.backbone, family="llama", texts=texts, seed=1).tokenizer


@pytest.mark.parametrize("case", CASES)
def test_logits_are_the_equations(case: str, workshop: Any) -> None:
    check(*opened(workshop, **CASES[case]))


@pytest.mark.parametrize("folder", ["stories260K/hf", "stories3M-q80/hf"])
@pytest.mark.parametrize("case", ["release", "paper"])
def test_logits_are_the_equations_on_trained_backbones(case: str, folder: str, workshop: Any) -> None:
    path = CHECKPOINTS / folder
    if not (path / "config.json").is_file():
        pytest.skip(f"no {folder}; put small trained Llamas beside the checkout, in shared/lm")
    model, split = opened(workshop, **{**CASES[case], "backbone": f"path:{path}", "instruction": "List:"})
    assert model.backbone_name == (folder.split("/")[0] + "/hf")
    norm = json.loads((path / "config.json").read_text())["hidden_size"] ** 0.5 / float(
        model.backbone.norm.weight.detach().norm()
    )
    assert model.state_scale == pytest.approx(norm, rel=0.2)  # the weights above were moved a little
    check(model, split, rtol=1e-3)


def test_a_row_is_scored_alike_in_every_batch(workshop: Any) -> None:
    model, split = opened(workshop)
    with torch.no_grad():
        together = model.full_sort_predict(batch_of(split, HISTORIES)).view(3, -1)
        for row, history in zip(together, HISTORIES, strict=True):
            alone = model.full_sort_predict(batch_of(split, [history]))
            torch.testing.assert_close(row[1:], alone[1:], rtol=1e-4, atol=1e-5)


def test_the_prefix_changes_with_the_users_graph_and_only_then(workshop: Any) -> None:
    """With the graph's vectors of two items exchanged, `graph` reads another prefix, `learned` the same."""
    for prefix, differs in (("graph", True), ("learned", False), ("none", False)):
        model, split = opened(workshop, prefix=prefix, use_graph_id=False)
        batch = batch_of(split, [[3, 9]])
        with torch.no_grad():
            before = model.full_sort_predict(batch)
            model.graph_items[[3, 20]] = model.graph_items[[20, 3]]
            after = model.full_sort_predict(batch)
        assert torch.equal(before, after) != differs


def test_bf16_backbones_score_close_to_fp32(workshop: Any) -> None:
    changes = {**RELEASE, "head": "trainable", "standardise": True}
    exact, split = opened(workshop, **changes)
    cell = workshop.provided(workshop.cell("HeLLM", **{**changes, "dtype": "bf16"}))
    half = make_model(cell, workshop.split(cell))
    frozen = {n for n, w in half.named_parameters() if not w.requires_grad}
    assert all(
        w.dtype == (torch.bfloat16 if n in frozen else torch.float32) for n, w in half.named_parameters()
    )
    half.load_state_dict(exact.state_dict())
    half.eval()
    batch = batch_of(split, HISTORIES)
    with torch.no_grad():
        a, b = (
            exact.full_sort_predict(batch).view(3, -1)[:, 1:],
            half.full_sort_predict(batch).view(3, -1)[:, 1:],
        )
    assert b.dtype == torch.float32
    assert float((a - b).norm() / a.norm()) < 0.05
    half.train()
    batch.update(type(batch)({"item_id": torch.tensor([4, 5, 6])}))
    half.calculate_loss(batch).backward()
    grads = [w.grad for w in half.parameters() if w.requires_grad]
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in grads)


def test_the_loss_is_cross_entropy_over_real_items(workshop: Any) -> None:
    model, split = opened(workshop, head="trainable")
    batch = batch_of(split, HISTORIES)
    targets = torch.tensor([7, 1, 48])
    batch.update(type(batch)({"item_id": targets}))
    with torch.no_grad():
        logits = model.full_sort_predict(batch).view(3, -1)[:, 1:].double().numpy()
        loss = float(model.calculate_loss(batch))
    chance = [
        math.exp(row[t - 1]) / np.exp(row).sum() for row, t in zip(logits, targets.tolist(), strict=True)
    ]
    assert loss == pytest.approx(-np.mean(np.log(chance)), rel=1e-5)


def test_a_second_bos_stands_before_the_response(workshop: Any) -> None:
    cell = workshop.provided(workshop.cell("HeLLM"))
    split = workshop.split(cell)
    settings = {bos: cell.settings.model_copy(update={"bos": bos}) for bos in ("once", "release")}
    ids = {}
    for bos, told in settings.items():
        changed = replace(cell, settings=told)
        ids[bos] = make_model(changed, workshop.split(changed)).prompt.text.tolist()
    tokenizer = opened_tokenizer(make_model(cell, split))
    assert len(ids["release"]) == len(ids["once"]) + 1
    assert ids["release"].count(tokenizer.bos_token_id) == 2
    assert ids["once"].count(tokenizer.bos_token_id) == 1
