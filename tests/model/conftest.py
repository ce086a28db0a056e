"""What the tests of multimodal models share: opened models, triples, and plain arrays to compute from."""

from dataclasses import dataclass
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
