"""What tests share: multimodal models on plain arrays, and prompts of titles and vectors made by hand."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


@dataclass
class Opened:
    """A model with weights far from their small initial values, and the data as plain arrays.

    Attributes:
        model: on the miniature.
        split: its split.
        A: who met whom in training, without padding. `[U, N]`
        features: by modality, in the order of item ids, without padding. `[N, f]` each
    """

    model: Any
    split: Any
    A: np.ndarray
    features: dict[str, np.ndarray]

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """State in float64."""
        return {name: value.double().numpy() for name, value in self.model.state_dict().items()}

    def table(self, name: str) -> np.ndarray:
        """Rows of a table without padding."""
        return self.weights[name][1:]

    def triples(self, count: int = 9) -> tuple[Any, np.ndarray]:
        """Random triples as a batch, and as places without padding. `[count, 3]`"""
        from recbole.data.interaction import Interaction

        rng = np.random.default_rng(2)
        highest = (self.split.n_users, self.split.n_items, self.split.n_items)
        ids = np.stack([rng.integers(1, top, count) for top in highest])
        fields = ("user_id", "item_id", "neg_item_id")
        rows = Interaction({name: torch.from_numpy(column) for name, column in zip(fields, ids, strict=True)})
        return rows, ids.T - 1


def plain_features(path: str, split: Any) -> np.ndarray:
    from recbole_llmgraph.artifact.tables import load_table

    table = load_table(path)
    rows = dict(zip(table.tokens, table.rows.double().numpy(), strict=True))
    return np.stack([rows[token] for token in split.item_tokens()[1:]])


def open_model(workshop: Any, name: str, **changes: Any) -> Opened:
    from recbole_llmgraph.suite.run import make_model

    cell = workshop.provided(workshop.cell(name, **changes))
    split = workshop.split(cell)
    model = make_model(cell, split)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    A = np.zeros((split.n_users - 1, split.n_items - 1))
    for user, part in workshop.miniature.parts().items():
        for item in part["train"]:
            A[split.dataset.token2id("user_id", user) - 1, split.dataset.token2id("item_id", item) - 1] = 1
    files = {"text": cell.settings.text_features, "image": cell.settings.image_features}
    features = {name: plain_features(path, split) for name, path in files.items() if path}
    return Opened(model, split, A, features)


@pytest.fixture(scope="session")
def opened() -> Any:
    """Function: workshop, model name and settings -> `Opened`."""
    return open_model


@pytest.fixture(scope="module", params=["text", "text and images"])
def place(request: pytest.FixtureRequest, workshop: Any, make_workshop: Any) -> Any:
    """A workshop without images, then one with."""
    return workshop if request.param == "text" else make_workshop(images=True)


class Reference:
    """Pieces that several papers have in common, dense and in float64."""

    @staticmethod
    def symmetric(A: np.ndarray) -> np.ndarray:
        """D^-1/2 A D^-1/2 with D the row sums; rows without entries stay empty."""
        degree = A.sum(1)
        scale = np.divide(1, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
        return scale[:, None] * A * scale

    @staticmethod
    def joined(A: np.ndarray) -> np.ndarray:
        """[0 A; A' 0]."""
        users, items = A.shape
        return np.block([[np.zeros((users, users)), A], [A.T, np.zeros((items, items))]])

    @staticmethod
    def layers(P: np.ndarray, x: np.ndarray, count: int) -> np.ndarray:
        """Mean over l = 0 .. count of P^l x."""
        found = [x]
        for _ in range(count):
            found.append(P @ found[-1])
        return np.mean(found, axis=0)

    @staticmethod
    def cosine(rows: np.ndarray) -> np.ndarray:
        """Cosine of every two rows, zero for rows without direction."""
        size = np.linalg.norm(rows, axis=1, keepdims=True)
        unit = np.divide(rows, size, out=np.zeros_like(rows), where=size > 0)
        return unit @ unit.T

    @classmethod
    def nearest(cls, rows: np.ndarray, k: int) -> np.ndarray:
        """1 where j is among the k rows most like i; i itself first, ties to the lower number."""
        similar = np.round(cls.cosine(rows), 9)
        found = np.zeros_like(similar)
        for i, row in enumerate(similar):
            order = sorted(range(len(row)), key=lambda j: (j != i, -row[j], j))
            found[i, order[:k]] = 1
        return found

    @staticmethod
    def bpr(u: np.ndarray, p: np.ndarray, n: np.ndarray) -> float:
        """Mean of -log sigma(u.p - u.n), one row after the other."""
        losses = [-np.log(1 / (1 + np.exp(-(a @ b - a @ c)))) for a, b, c in zip(u, p, n, strict=True)]
        return float(np.mean(losses))


@pytest.fixture(scope="session")
def reference() -> type[Reference]:
    """Dense pieces to build a paper's equations from."""
    return Reference


class Prompted:
    """A Llama over titles and vectors, its scores by hand, prompt by prompt; transformers runs the layers.

    The model's weights are away from their initial values and it is in evaluation mode.
    """

    def __init__(self, workshop: Any, name: str, **changes: Any) -> None:
        from recbole_llmgraph.lm.backbone import open_backbone
        from recbole_llmgraph.suite.run import make_model

        cell = workshop.provided(workshop.cell(name, **changes))
        self.settings, self.split = cell.settings, workshop.split(cell)
        self.model = make_model(cell, self.split)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight_name, weight in self.model.named_parameters():
                if not weight_name.startswith("backbone.") or "lora_" in weight_name:
                    weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
        self.model.eval()
        o = self.settings
        self.texts: dict[str, str] = json.loads(Path(o.item_titles).read_text("utf-8"))
        lines = [self.texts[token] for token in sorted(self.texts)]
        opened = open_backbone(o.backbone, family="llama", texts=lines, seed=1, vocabulary=o.vocabulary)
        self.tokenizer: Any = opened.tokenizer

    def vectors(self, file: str, tokens: Sequence[str]) -> torch.Tensor:
        """Rows of a table for tokens, padding first. `[len(tokens), d]`"""
        from recbole_llmgraph.artifact.tables import load_table

        table = load_table(Path(file))
        rows = dict(zip(table.tokens, table.rows.double().tolist(), strict=True))
        found = torch.tensor([rows[token] for token in tokens[1:]], dtype=torch.double)
        if self.settings.standardise:
            found = (found - found.mean(0)) / found.std(0, unbiased=True)
        return torch.cat([torch.zeros(1, found.shape[1], dtype=torch.double), found])

    def weight(self, name: str) -> torch.Tensor:
        return self.model.state_dict()[name].double()  # type: ignore[no-any-return]

    def words(self, text: str) -> list[torch.Tensor]:
        ids = self.tokenizer(text, add_special_tokens=False).input_ids if text else []
        return [self.weight("backbone.embed_tokens.weight")[i] for i in ids]

    def title(self, item: int) -> list[torch.Tensor]:
        """The first words of an item's text, and what stands behind them."""
        text = self.texts[self.split.item_tokens()[item]]
        return self.words(text)[: self.settings.title_tokens] + self.words(self.settings.separator)

    def mapped(self, vector: torch.Tensor, *, gelu: bool) -> torch.Tensor:
        """W2 phi(W1 x + b1) + b2."""
        w = {n: self.weight(f"item_projection.{n}") for n in ("0.weight", "0.bias", "2.weight", "2.bias")}
        hidden = w["0.weight"] @ vector + w["0.bias"]
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))) if gelu else hidden.clamp_min(0)
        return w["2.weight"] @ hidden + w["2.bias"]

    def logits(self, rows: list[torch.Tensor], items: torch.Tensor) -> torch.Tensor:
        """Scores of the items 1 .. N for one prompt: a first token, then rows. Items `[N, d]`"""
        first = self.weight("backbone.embed_tokens.weight")[self.tokenizer.bos_token_id]
        prompt = torch.stack([first, *rows]).float().unsqueeze(0)
        with torch.no_grad():
            state = self.model.backbone(inputs_embeds=prompt).last_hidden_state[0, -1].double()
        state = state * self.model.state_scale
        if self.settings.head == "feature":
            return items[1:] @ (self.weight("score.weight") @ state + self.weight("score.bias"))
        if self.settings.head == "tied":
            rows = [self.mapped(item, gelu=True) for item in items[1:]]
            return torch.stack(rows) @ state / math.sqrt(len(state))
        return self.weight("score.weight")[1:] @ state

    def batch(self, histories: list[list[int]], **more: list[int]) -> Any:
        """Histories padded on the right, further than they need."""
        from recbole.data.interaction import Interaction

        rows = torch.zeros(len(histories), max(map(len, histories)) + 2, dtype=torch.long)
        for row, history in zip(rows, histories, strict=True):
            row[: len(history)] = torch.tensor(history)
        lengths = torch.tensor([len(history) for history in histories])
        named = {name: torch.tensor(column) for name, column in more.items()}
        return Interaction({"item_id_list": rows, "item_length": lengths, **named})

    def check(self, batch: Any, expected: list[torch.Tensor], rtol: float = 1e-4) -> None:
        """The model's scores of a batch, padding at -inf."""
        with torch.no_grad():
            found = self.model.full_sort_predict(batch).view(len(expected), -1)
        assert bool((found[:, 0] == -torch.inf).all())
        for row, scores in zip(found, expected, strict=True):
            torch.testing.assert_close(row[1:].double(), scores, rtol=rtol, atol=rtol * float(scores.std()))


@pytest.fixture(scope="session")
def prompted() -> type[Prompted]:
    """Class: workshop, model name and settings -> model and its scores by hand."""
    return Prompted
