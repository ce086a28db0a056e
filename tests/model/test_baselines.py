"""Baselines against RecBole's plain path: the same losses, the same gradients, the same scores."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from torch import nn

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host import originals
from recbole_llmgraph.host.batches import load_batch, trim
from recbole_llmgraph.host.dataset import training_pairs
from recbole_llmgraph.host.seam import sealed
from recbole_llmgraph.model.baseline.bert4rec import BERT4Rec
from recbole_llmgraph.model.baseline.bpr import BPR
from recbole_llmgraph.model.baseline.caser import Caser
from recbole_llmgraph.model.baseline.gru4rec import GRU4Rec
from recbole_llmgraph.model.baseline.lightgcn import LightGCN
from recbole_llmgraph.model.baseline.pop import Pop
from recbole_llmgraph.model.baseline.s3rec import S3Rec
from recbole_llmgraph.model.baseline.sasrec import SASRec
from recbole_llmgraph.model.catalogue import model_cards

NO_DROPOUT: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
SHORT: dict[str, Any] = {"max_history": 12}
#: Class and settings; without dropout, so that two roads can be compared number by number.
SEQUENTIAL: list[tuple[Any, dict[str, Any]]] = [
    (SASRec, {**SHORT, **NO_DROPOUT}),
    (SASRec, {**SHORT, **NO_DROPOUT, "loss_type": "BPR", "n_layers": 1}),
    (BERT4Rec, {**SHORT, **NO_DROPOUT, "mask_ratio": 0.4}),
    (BERT4Rec, {**SHORT, **NO_DROPOUT, "mask_ratio": 0.4, "loss_type": "BPR"}),
    (GRU4Rec, {**SHORT, "dropout_prob": 0.0}),
    (Caser, {"max_history": 5, "dropout_prob": 0.0}),
    (Caser, {"max_history": 5, "dropout_prob": 0.0, "loss_type": "BPR"}),
]
GENERAL: list[tuple[Any, dict[str, Any]]] = [
    (LightGCN, {}),
    (LightGCN, {"n_layers": 0}),
    (LightGCN, {"require_pow": False, "reg_weight": 1e-2}),
    (BPR, {}),
]
ALL: list[tuple[Any, dict[str, Any]]] = [
    *((case[0], {"max_history": 12}) for case in (SEQUENTIAL[0], SEQUENTIAL[2], SEQUENTIAL[4])),
    (Caser, {}),
    (S3Rec, {"max_history": 12}),
    *((case[0], {}) for case in (GENERAL[0], GENERAL[3])),
    (Pop, {}),
]


def _name(case: Any) -> str | None:
    return case.__name__ if isinstance(case, type) else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny`: 80 users, 50 items of skewed popularity, attributes for two items in three."""
    path = tmp_path_factory.mktemp("atomic") / "tiny"
    path.mkdir()
    rng = np.random.default_rng(11)
    weights = 1.0 / np.arange(1, 51)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(80):
        items = rng.choice(50, size=int(rng.integers(4, 22)), replace=False, p=weights / weights.sum())
        lines += [f"u{user}\ti{item}\t{time}" for time, item in enumerate(items)]
    (path / "tiny.inter").write_text("\n".join(lines) + "\n")
    lines = ["item_id:token\tattributes:token_seq"]
    for item in range(50):
        labels = rng.integers(0, 7, size=int(rng.integers(0, 4)) if item % 3 else 0)  # with repetitions
        lines.append(f"i{item}\t{' '.join(f'a{label}' for label in labels)}")
    (path / "tiny.item").write_text("\n".join(lines) + "\n")
    return path.parent


@pytest.fixture(scope="module")
def split(folder: Path) -> Callable[..., Any]:
    """Function: class and settings -> (config, training, validation and test loader)."""

    def make(kind: Any, **chosen: Any) -> Any:
        values = {
            "data_path": str(folder),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "eval_args": {
                "split": {"LS": "valid_and_test"},
                "order": "TO",
                "group_by": "user",
                "mode": "full",
            },
            "state": "WARNING",
            "seed": 1,
            **kind.recbole_config(kind.settings(**chosen)),
        }
        with sealed():
            config = Config(model=kind, dataset="tiny", config_dict=values)
        return (config, *data_preparation(config, create_dataset(config)))

    return make


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    np.random.seed(0)
    torch.manual_seed(0)
    yield


def _pair(kind: Any, config: Any, dataset: Any) -> tuple[Any, Any]:
    """Ours, and RecBole's with the same weights."""
    ours = kind(config, dataset)
    plain = getattr(originals, kind.__name__)(config, dataset)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def _gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    # a key's bias shifts all scores of a query alike: its gradient is zero up to rounding
    return {name: gradient for name, gradient in found.items() if not name.endswith("key.bias")}


@pytest.mark.parametrize(("kind", "chosen"), SEQUENTIAL + GENERAL, ids=_name)
def test_losses_and_gradients_are_recboles_over_several_steps(split: Any, kind: Any, chosen: Any) -> None:
    config, train, _, _ = split(kind, **chosen)
    ours, plain = _pair(kind, config, train._dataset)
    optimisers = [torch.optim.Adam(model.parameters(), lr=1e-2) for model in (ours, plain)]
    for step in range(4):
        rows = np.arange(step * 40, step * 40 + 40)
        np.random.seed(step)
        whole = load_batch(train, rows, accelerate=False)
        cut = whole
        if kind.batching == "by_length":
            cut = trim(whole, config)
        for optimiser in optimisers:
            optimiser.zero_grad()
        losses = [ours.calculate_loss(cut), plain.calculate_loss(whole)]
        for loss in losses:
            loss.sum().backward()
        assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-6, rel=1e-6)
        theirs = _gradients(plain)
        for name, gradient in _gradients(ours).items():
            scale = theirs[name].abs().max().clamp(min=1e-3)
            assert (gradient - theirs[name]).abs().max() < 1e-4 * scale, name
        for optimiser in optimisers:
            optimiser.step()
        plain.load_state_dict(ours.state_dict())  # rounding does not pile up
    assert losses[0].requires_grad


@pytest.mark.parametrize(
    ("kind", "chosen"), [*SEQUENTIAL, *GENERAL, (S3Rec, {**SHORT, **NO_DROPOUT})], ids=_name
)
def test_scores_are_recboles(split: Any, kind: Any, chosen: Any) -> None:
    loaded = split(kind, **chosen)
    ours, plain = (model.eval() for model in _pair(kind, loaded[0], loaded[1]._dataset))
    loader = loaded[3]
    lengths = (
        loader._dataset.inter_feat["item_length"] if loader.is_sequential else torch.ones(loader.sample_size)
    )
    for rows in np.array_split(lengths.argsort().numpy(), 5):  # the first batch holds short histories only
        cut, whole = load_batch(loader, rows)[0], load_batch(loader, rows, accelerate=False)[0]
        with torch.no_grad():
            found = ours.full_sort_predict(cut).view(len(rows), -1)
            expected = plain.full_sort_predict(whole).view(len(rows), -1)
        assert torch.allclose(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("kind", "chosen"), ALL, ids=_name)
def test_predict_is_a_column_of_full_sort_predict(split: Any, kind: Any, chosen: Any) -> None:
    loaded = split(kind, **chosen)
    model = kind(loaded[0], loaded[1]._dataset)
    model.calculate_loss(load_batch(loaded[1], np.arange(50)))
    model.eval()
    batch = load_batch(loaded[2], np.arange(20))[0]
    items = torch.arange(1, 21)
    with torch.no_grad():
        scores = model.full_sort_predict(batch).view(20, -1)
        batch["item_id"] = items
        single = model.predict(batch)
    assert torch.allclose(single.double(), scores[torch.arange(20), items].double(), atol=1e-5)


@pytest.mark.parametrize(("kind", "chosen"), ALL, ids=_name)
def test_the_plain_path_is_recboles_own(split: Any, kind: Any, chosen: Any) -> None:
    config, train, _, _ = split(kind, **chosen, accelerate=False)
    ours = kind(config, train._dataset)
    batch = load_batch(train, np.arange(30), accelerate=False)
    if kind in (Pop,):
        assert float(ours.calculate_loss(batch)) == 0.0
        return
    plain = getattr(originals, kind.__name__)(config, train._dataset)
    plain.load_state_dict(ours.state_dict())
    found = []
    for model in (ours, plain):
        torch.manual_seed(3)
        random.seed(3)
        found.append(model.calculate_loss(batch))
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize(("kind", "chosen"), ALL, ids=_name)
def test_saved_weights_give_the_same_scores(split: Any, kind: Any, chosen: Any, tmp_path: Path) -> None:
    loaded = split(kind, **chosen)
    model = kind(loaded[0], loaded[1]._dataset)
    model.calculate_loss(load_batch(loaded[1], np.arange(50)))
    batch = load_batch(loaded[3], np.arange(20))[0]
    model.eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    torch.manual_seed(99)
    other = kind(loaded[0], loaded[1]._dataset)
    other.eval().full_sort_predict(batch)  # anything it keeps must not survive
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    other.eval()
    assert torch.equal(model.full_sort_predict(batch), other.full_sort_predict(batch))


@pytest.mark.parametrize(("kind", "chosen"), ALL[:-1], ids=_name)
def test_loss_falls(split: Any, kind: Any, chosen: Any) -> None:
    config, train, _, _ = split(kind, **chosen)
    model = kind(config, train._dataset)
    if kind is S3Rec:
        model.enter_phase("finetune")
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    history = []
    for _ in range(16):
        optimiser.zero_grad()
        loss = model.calculate_loss(load_batch(train, np.arange(64)))
        loss.sum().backward()
        optimiser.step()
        history.append(loss.item())
    assert np.mean(history[-4:]) < np.mean(history[:4]) - 0.01


def test_pop_counts_every_interaction_where_recbole_counts_batches(split: Any) -> None:
    config, train, _, _ = split(Pop)
    ours, plain = Pop(config, train._dataset), originals.Pop(config, train._dataset)
    batch = load_batch(train, np.arange(len(train._dataset)))
    ours.calculate_loss(batch)
    plain.calculate_loss(batch)
    _, items = training_pairs(train._dataset)
    assert ours.item_cnt.flatten().tolist() == np.bincount(items, minlength=ours.n_items).tolist()
    assert plain.item_cnt.max() == 1


def test_bert4rec_has_no_loss_on_one_item_histories_where_recboles_is_nan(split: Any) -> None:
    config, train, _, _ = split(BERT4Rec, **SHORT, mask_ratio=0.4)
    ours, plain = _pair(BERT4Rec, config, train._dataset)
    rows = np.flatnonzero(train._dataset.inter_feat["item_length"].numpy() == 1)
    whole = load_batch(train, rows, accelerate=False)
    assert plain.calculate_loss(whole).isnan()
    loss = ours.calculate_loss(load_batch(train, rows))
    loss.backward()
    assert loss.item() == 0.0
    assert not any(gradient.abs().max() > 0 for gradient in _gradients(ours).values())


def test_lightgcn_drops_its_tables_when_weights_change(split: Any) -> None:
    config, train, _, test = split(LightGCN)
    model = LightGCN(config, train._dataset).eval()
    batch = load_batch(test, np.arange(5))[0]
    before = model.full_sort_predict(batch)
    model.load_state_dict({name: weight * 2 for name, weight in model.state_dict().items()})
    assert torch.allclose(model.eval().full_sort_predict(batch), 4 * before)


def test_every_baseline_has_a_card_whose_presets_fit(split: Any) -> None:
    ours = {card.name: card for card in model_cards().values() if ".baseline." in card.class_}
    assert set(ours) >= {"BERT4Rec", "BPR", "Caser", "GRU4Rec", "LightGCN", "Pop", "S3Rec", "SASRec"}
    for card in ours.values():
        kind = card.load()
        assert kind.__name__ == card.name
        assert (card.family == "sequential") == (kind.type.name == "SEQUENTIAL")
        for dataset in ["ml-100k", "beauty", "ml-1m", *card.datasets]:
            for preset in ("quick", "standard", "paper"):
                settings = kind.settings.read(card.preset_settings(dataset, preset))
                assert "train_batch_size" in kind.recbole_config(settings)


def test_bert4rec_needs_room_for_a_mask() -> None:
    with pytest.raises(UserError, match="max_history=5"):
        BERT4Rec.settings.read({"max_history": 4, "mask_ratio": 0.2})
