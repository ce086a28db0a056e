"""S3Rec: pre-training equals RecBole's on the same hidden rows, and the rows are drawn alike."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from scipy.stats import chisquare
from torch.nn import functional as F

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host import originals
from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.host.seam import sealed
from recbole_llmgraph.model.baseline.s3rec import S3Rec, S3RecSettings
from recbole_llmgraph.model.baseline.s3rec_rows import HiddenRows, hide, items_outside
from recbole_llmgraph.train.settings import Phase

SLOTS = 9
Loaded = tuple[Any, Any]


def _load(folder: Path, **chosen: Any) -> Loaded:
    settings = S3RecSettings(max_history=SLOTS, hidden_dropout_prob=0.0, attn_dropout_prob=0.0, **chosen)
    order = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    values = {"data_path": str(folder), "eval_args": order, "state": "WARNING", "seed": 1}
    with sealed():
        config = Config(model=S3Rec, dataset="tiny", config_dict={**values, **S3Rec.recbole_config(settings)})
    return config, data_preparation(config, create_dataset(config))[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 users, 25 items; attributes repeat within an item, some items have none, some have no line."""
    path = tmp_path_factory.mktemp("atomic") / "tiny"
    path.mkdir()
    rng = np.random.default_rng(3)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(30):
        items = rng.choice(25, size=int(rng.integers(4, 15)), replace=False)
        lines += [f"u{user}\ti{item}\t{time}" for time, item in enumerate(items)]
    (path / "tiny.inter").write_text("\n".join(lines) + "\n")
    lines = ["item_id:token\tattributes:token_seq\tcolour:token"]
    for item in range(20):
        labels = rng.integers(0, 6, size=int(rng.integers(0, 5)))
        lines.append(f"i{item}\t{' '.join(f'a{label}' for label in labels)}\tc{item % 4}")
    (path / "tiny.item").write_text("\n".join(lines) + "\n")
    return path.parent


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return _load(folder)


def _recboles_loss(model: Any, rows: HiddenRows, field: str = "attributes") -> torch.Tensor:
    """RecBole's `pretrain` on the same rows, with all slots and the attributes as lists of 0 and 1."""
    padded = {name: F.pad(value, (SLOTS - value.shape[1], 0)) for name, value in vars(rows).items()}
    features = torch.zeros(*padded["sequence"].shape, model.n_features, dtype=torch.long)
    for row, items in enumerate(padded["sequence"].tolist()):
        for slot, item in enumerate(items):
            for label in model.item_feat[field][item].reshape(-1).tolist():
                if item and label > 0:
                    features[row, slot, label - 1] = 1
    return model.pretrain(
        features,
        padded["masked"],
        padded["sequence"],
        padded["negatives"],
        padded["without_segment"],
        padded["segment"],
        padded["foreign"],
    )


@pytest.mark.parametrize("field", ["attributes", "colour"])
def test_pretraining_loss_and_gradients_are_recboles(folder: Path, field: str) -> None:
    config, train = _load(folder, item_attribute=field)
    ours, plain = S3Rec(config, train._dataset), originals.S3Rec(config, train._dataset)
    plain.load_state_dict(ours.state_dict())
    lengths = train._dataset.inter_feat["item_length"].numpy()
    for most in (1, 3, SLOTS):
        batch = load_batch(train, np.flatnonzero(lengths <= most)[:40])
        assert batch["item_id_list"].shape[1] == most
        rows = hide(batch["item_id_list"], batch["item_length"], ours.mask_token, 0.4)
        losses = [ours.pretraining_loss(rows), _recboles_loss(plain, rows, field)]
        assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
        for model, loss in zip((ours, plain), losses, strict=True):
            model.zero_grad()
            loss.backward()
        for (name, mine), theirs in zip(ours.named_parameters(), plain.parameters(), strict=True):
            if theirs.grad is not None and not name.endswith("key.bias"):
                scale = theirs.grad.abs().max().clamp(min=1e-3)
                assert (mine.grad - theirs.grad).abs().max() < 1e-4 * scale, name


def test_finetuning_loss_is_recboles(loaded: Loaded) -> None:
    config, train = loaded
    ours, plain = S3Rec(config, train._dataset), originals.S3Rec(config, train._dataset)
    plain.load_state_dict(ours.state_dict())
    ours.enter_phase("finetune")
    plain.train_stage, plain.loss_fct = "finetune", torch.nn.CrossEntropyLoss()
    rows = np.flatnonzero(train._dataset.inter_feat["item_length"].numpy() <= 4)[:30]
    found = ours.calculate_loss(load_batch(train, rows))
    expected = plain.calculate_loss(load_batch(train, rows, accelerate=False))
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_both_stages_run_on_one_model(loaded: Loaded) -> None:
    config, train = loaded
    assert S3Rec.phases(S3RecSettings(pretrain_epochs=7, epochs=9)) == [
        Phase("pretrain", 7, selects=False),
        Phase("finetune", 9),
    ]
    assert S3Rec.phases(S3RecSettings(pretrain_epochs=0, epochs=9)) == [Phase("finetune", 9)]
    model = S3Rec(config, train._dataset)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for stage in ("pretrain", "finetune"):
        model.enter_phase(stage)
        history = []
        for _ in range(6):
            optimiser.zero_grad()
            loss = model.calculate_loss(load_batch(train, np.arange(40)))
            loss.backward()
            optimiser.step()
            history.append(loss.item())
        assert history[-1] < 0.97 * history[0]


@pytest.mark.parametrize("field", ["attribute", "title"])
def test_a_missing_attribute_column_names_the_mend(folder: Path, field: str) -> None:
    config, train = _load(folder, item_attribute=field)
    with pytest.raises(UserError, match=f"no column '{field}'.*item_attribute"):
        S3Rec(config, train._dataset)


#: A batch of fixed histories for the comparison of draws; the mask token is 12.
HISTORIES = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, 0, 0, 0, 0], [9, 0, 0, 0, 0, 0], [2, 10, 11, 4, 0, 0]])
LENGTHS = torch.tensor([6, 2, 1, 4])
MASK = 12


def _recboles_rows(model: Any) -> HiddenRows:
    _, masked, sequence, negatives, without, segment, foreign = model.reconstruct_pretrain_data(
        F.pad(HISTORIES, (0, SLOTS - 6)), LENGTHS
    )
    return HiddenRows(*(x[:, SLOTS - 6 :] for x in (sequence, masked, negatives, without, segment, foreign)))


@pytest.fixture(scope="module")
def draws(loaded: Loaded) -> tuple[list[HiddenRows], list[HiddenRows]]:
    """Ours and RecBole's, of the same four histories."""
    config, train = loaded
    model = originals.S3Rec(config, train._dataset)
    model.n_items, model.mask_token, model.mask_ratio = MASK + 1, MASK, 0.3
    torch.manual_seed(0)
    random.seed(0)
    return [hide(HISTORIES, LENGTHS, MASK, 0.3) for _ in range(1500)], [
        _recboles_rows(model) for _ in range(1500)
    ]


def test_histories_stand_on_the_right(draws: tuple[list[HiddenRows], list[HiddenRows]]) -> None:
    ours, theirs = draws
    expected = [[1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 7, 8], [0, 0, 0, 0, 0, 9], [0, 0, 2, 10, 11, 4]]
    assert ours[0].sequence.tolist() == theirs[0].sequence.tolist() == expected


@pytest.mark.parametrize("field", ["masked", "without_segment", "segment", "foreign"])
def test_rows_are_hidden_as_often_as_by_recbole(
    draws: tuple[list[HiddenRows], list[HiddenRows]], field: str
) -> None:
    """Every value of every slot comes about as often, and so does every whole row of the second history."""
    ours, theirs = (torch.stack([getattr(rows, field) for rows in drawn]) for drawn in draws)
    n = len(ours)
    for value in range(MASK + 1):
        mine, its = (ours == value).float().mean(0), (theirs == value).float().mean(0)
        spread = (its * (1 - its) / n).clamp(min=1 / n**2).sqrt()
        assert ((mine - its).abs() < 6.5 * spread).all(), (field, value)
    mine, its = (Counter(tuple(row) for row in drawn[:, 1].tolist()) for drawn in (ours, theirs))
    common = {row for row, count in (mine + its).items() if count > 40}
    assert len(common) > 1
    for row in common:
        assert abs(mine[row] - its[row]) < 6 * np.sqrt(mine[row] + its[row])


def test_negatives_stand_at_hidden_items_and_never_in_the_history(
    draws: tuple[list[HiddenRows], list[HiddenRows]],
) -> None:
    for drawn in draws:
        for rows in drawn[:300]:
            hidden = rows.masked == MASK
            assert torch.equal(rows.negatives[~hidden], rows.sequence[~hidden])
            owners = hidden.nonzero()[:, 0]
            assert not (rows.sequence[owners] == rows.negatives[hidden][:, None]).any()


def test_negatives_are_uniform_over_what_is_left() -> None:
    torch.manual_seed(0)
    histories = HISTORIES[[0, 1]].repeat_interleave(6000, dim=0)
    found = items_outside(histories, MASK)
    for row, left in ((0, [7, 8, 9, 10, 11, 12]), (1, [1, 2, 3, 4, 5, 6, 9, 10, 11, 12])):
        counts = torch.bincount(found[row * 6000 : row * 6000 + 6000], minlength=MASK + 1)
        assert counts.sum() == counts[left].sum()
        assert chisquare(counts[left].numpy()).pvalue > 1e-4
