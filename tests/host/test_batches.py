"""Orders cover every row once; cut batches hold RecBole's own rows, without columns of padding."""

import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.interaction import Interaction

from recbole_llmgraph.host.batches import epoch_order, load_batch, trim
from recbole_llmgraph.model.baseline.bert4rec import BERT4Rec, BERT4RecSettings
from recbole_llmgraph.model.baseline.caser import Caser, CaserSettings
from recbole_llmgraph.model.baseline.sasrec import SASRec, SASRecSettings

SHAPES = st.tuples(st.integers(0, 400), st.integers(1, 60), st.integers(1, 7), st.integers(0, 2**32 - 1))


@settings(max_examples=60, deadline=None)
@given(SHAPES)
def test_every_row_comes_once_in_full_batches(shape: tuple[int, int, int, int]) -> None:
    n_rows, batch_size, pool, seed = shape
    lengths = np.random.default_rng(seed).integers(1, 51, n_rows)
    for sorted_by in (None, lengths):
        batches = epoch_order(n_rows, batch_size, np.random.default_rng(seed), sorted_by, pool=pool)
        assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(n_rows))
        sizes = sorted(len(batch) for batch in batches)
        assert sizes[1:] == [batch_size] * (len(sizes) - 1) if len(set(sizes)) > 1 else len(set(sizes)) <= 1
        assert len(batches) == -(-n_rows // batch_size)


@settings(max_examples=40, deadline=None)
@given(SHAPES)
def test_batches_of_one_pool_do_not_overlap_in_length(shape: tuple[int, int, int, int]) -> None:
    n_rows, batch_size, _, seed = shape
    lengths = np.random.default_rng(seed).integers(1, 51, n_rows)
    batches = epoch_order(n_rows, batch_size, np.random.default_rng(seed), lengths, pool=1 << 20)
    spans = sorted((lengths[batch].min(), lengths[batch].max()) for batch in batches)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_sorting_saves_most_padding_and_stays_random() -> None:
    lengths = np.random.default_rng(0).geometric(0.2, 20_000).clip(max=50)
    first = epoch_order(20_000, 256, np.random.default_rng(1), lengths)
    again = epoch_order(20_000, 256, np.random.default_rng(1), lengths)
    other = epoch_order(20_000, 256, np.random.default_rng(2), lengths)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    slots = sum(lengths[batch].max() * len(batch) for batch in first)
    assert slots < 1.25 * lengths.sum() < 0.2 * 50 * 20_000
    widths = [lengths[batch].max() for batch in first]
    assert widths != sorted(widths)


def test_rows_of_one_length_change_companions() -> None:
    lengths = np.repeat([3, 5, 9], 40)
    together = sum(
        np.isin([40, 41], batch).all()  # two rows of length 5, which fill two batches of 20
        for seed in range(400)
        for batch in epoch_order(120, 20, np.random.default_rng(seed), lengths)
    )
    assert 140 < together < 250  # 19 in 39, but for batches that straddle lengths


def _sequence_loaders(loaders: Any, kind: Any, options: Any, **extra: Any) -> Any:
    return loaders(kind, **{**kind.recbole_config(options), **extra})


BERT = BERT4RecSettings(max_history=12, mask_ratio=0.4)


@pytest.mark.parametrize("part", [1, 2, 3], ids=["train", "valid", "test"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [(SASRec, SASRecSettings(max_history=12)), (BERT4Rec, BERT)],
    ids=["SASRec", "BERT4Rec"],
)
def test_cut_rows_are_recboles_rows(loaders: Any, kind: Any, options: Any, part: int) -> None:
    loader = _sequence_loaders(loaders, kind, options)[part]
    lengths = loader._dataset.inter_feat["item_length"].numpy()
    rows = np.flatnonzero(lengths <= 7)[:20]
    random.seed(3)
    cut = load_batch(loader, rows, accelerate=True)
    random.seed(3)
    whole = load_batch(loader, rows, accelerate=False)
    random.seed(3)
    plain = loader.collate_fn(rows)
    if part > 1:
        assert torch.equal(cut[3], whole[3])
        cut, whole, plain = cut[0], whole[0], plain[0]
    assert set(cut.columns) == set(whole.columns) == set(plain.columns)
    width = int(lengths[rows].max())
    for name in plain.columns:
        assert torch.equal(whole[name], plain[name])
        kept, full = cut[name], plain[name]
        if name in ("MASK_INDEX", "Pos_item_id", "Neg_item_id"):
            assert torch.equal(kept, full[:, full.shape[1] - kept.shape[1] :])
            assert not plain["MASK_INDEX"][:, : full.shape[1] - kept.shape[1]].any()
        elif full.dim() == 2:
            assert kept.shape[1] == width
            assert torch.equal(kept, full[:, :width])
            assert not full[:, width:].any()
        else:
            assert torch.equal(kept, full)


def test_masks_are_cut_to_the_row_with_most_of_them(loaders: Any) -> None:
    loader = _sequence_loaders(loaders, BERT4Rec, BERT, ft_ratio=0.0)[1]
    random.seed(0)
    batch = load_batch(loader, np.arange(40))
    counts = (batch["MASK_INDEX"] > 0).sum(1)
    assert batch["MASK_INDEX"].shape[1] == counts.max() > 1
    assert batch["Pos_item_id"].shape == batch["Neg_item_id"].shape == batch["MASK_INDEX"].shape


def test_models_that_read_padding_keep_it(loaders: Any) -> None:
    loader = _sequence_loaders(loaders, Caser, CaserSettings(max_history=9))[1]
    lengths = loader._dataset.inter_feat["item_length"].numpy()
    batch = load_batch(loader, np.flatnonzero(lengths == 1)[:5])
    assert batch["item_id_list"].shape == (5, 9)


def test_classes_of_unknown_ways_keep_padding(loaders: Any) -> None:
    loader = loaders("GRU4Rec", train_neg_sample_args=None)[1]  # RecBole's own class declares nothing
    assert load_batch(loader, np.arange(3))["item_id_list"].shape == (3, 12)


def test_general_models_get_recboles_batch(loaders: Any) -> None:
    loader = loaders("BPR")[1]
    np.random.seed(4)
    ours = load_batch(loader, np.arange(30))
    np.random.seed(4)
    plain = loader.collate_fn(np.arange(30))
    assert set(ours.columns) == set(plain.columns) == {"user_id", "item_id", "timestamp", "neg_item_id"}
    assert all(torch.equal(ours[name], plain[name]) for name in plain.columns)


def test_the_loader_keeps_its_transform(loaders: Any) -> None:
    loader = _sequence_loaders(loaders, BERT4Rec, BERT)[1]
    before = loader.transform
    load_batch(loader, np.arange(4))
    assert loader.transform is before


def test_trim_leaves_its_argument_alone(config: Any) -> None:
    rows = Interaction({"item_id_list": torch.tensor([[4, 0, 0]]), "item_length": torch.tensor([1])})
    assert trim(rows, config("GRU4Rec", train_neg_sample_args=None))["item_id_list"].tolist() == [[4]]
    assert rows["item_id_list"].shape == (1, 3)
