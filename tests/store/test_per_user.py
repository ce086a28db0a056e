"""Per-user results: ranks give back metrics exactly, as a slow reference and RecBole itself compute them."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.store.per_user import METRICS, PerUser, metric_of_rank

KINDS = ("recall", "hit", "ndcg", "mrr", "precision")
ranks_of = st.lists(st.integers(0, 20), min_size=1, max_size=60)


def slow(kind: str, k: int, rank: int) -> float:
    """The metric of one user from its textbook definition: a list with one relevant item at `rank`."""
    hits = [1 if place == rank else 0 for place in range(1, k + 1)]
    if kind in ("recall", "hit"):
        return sum(hits) / 1
    if kind == "precision":
        return sum(hits) / k
    if kind == "ndcg":
        return sum(hit / math.log2(place + 1) for place, hit in enumerate(hits, start=1)) / (1 / math.log2(2))
    return next((1 / place for place, hit in enumerate(hits, start=1) if hit), 0.0)  # mrr


@settings(deadline=None)
@given(ranks=ranks_of, kind=st.sampled_from(KINDS), k=st.integers(1, 25))
def test_metrics_of_ranks_equal_the_definition(ranks, kind, k):
    found = metric_of_rank(f"{kind}@{k}", np.array(ranks))
    assert found.dtype == np.float64
    assert found.tolist() == [slow(kind, k, rank) for rank in ranks]


def test_metrics_of_ranks_equal_recboles_to_the_last_bit(monkeypatch):
    from recbole_llmgraph.host.compat import apply

    apply()
    monkeypatch.setattr(np, "float", np.float64, raising=False)  # RecBole's own Config puts this alias back
    from recbole.evaluator import metrics as theirs

    ranks = np.array([*range(21), 3, 1, 0])
    hits = ranks[:, None] == np.arange(1, 21)[None, :]
    lengths = np.ones(len(ranks), dtype=int)
    values = {
        "recall": theirs.Recall.metric_info(None, hits, lengths),
        "hit": theirs.Hit.metric_info(None, hits),
        "ndcg": theirs.NDCG.metric_info(None, hits, lengths),
        "mrr": theirs.MRR.metric_info(None, hits),
        "precision": theirs.Precision.metric_info(None, hits),
    }
    for kind, columns in values.items():
        for k in (1, 5, 10, 20):
            assert np.array_equal(metric_of_rank(f"{kind}@{k}", ranks), columns[:, k - 1].astype(float)), kind


@settings(max_examples=40, deadline=None)
@given(
    train=ranks_of,
    precision=st.sampled_from([np.float64, np.float32]),
    metrics=st.sampled_from([METRICS, ("ndcg@5", "recall@5", "ndcg@20", "mrr@20"), ("mrr@20", "hit@10")]),
)
def test_frames_are_stored_as_ranks_and_come_back_exactly(train, precision, metrics):
    none = train[::-1]
    frame = PerUser.from_ranks({"train": np.array(train), "none": np.array(none)}, metrics).to_frame()
    again = PerUser.from_frame(frame.astype(precision))
    assert not again.values and set(again.ranks) == {"train", "none"}
    pd.testing.assert_frame_equal(again.to_frame(), frame, check_exact=True)


@settings(max_examples=30, deadline=None)
@given(train=ranks_of)
def test_files_round_trip(train, tmp_path_factory):
    path = tmp_path_factory.mktemp("users") / "per_user.parquet"
    users = PerUser.from_ranks({"train": np.array(train)})
    users.write(path)
    again = PerUser.read(path)
    assert (
        again.metrics == users.metrics and again.ranks["train"].tolist() == train and len(again) == len(train)
    )


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40),
)
def test_several_test_items_a_user_keep_their_values(rows):
    # recall of one user in three steps: no rank tells this
    frame = pd.DataFrame(rows, columns=["recall@10|train", "ndcg@10|train"])
    frame.loc[len(frame)] = [1 / 3, 0.2]
    again = PerUser.from_frame(frame)
    assert not again.ranks
    np.testing.assert_array_equal(
        again.to_frame().to_numpy(), frame.astype(np.float32).astype(float).to_numpy()
    )


def test_ranks_beyond_one_byte():
    users = PerUser.from_ranks({"train": np.array([300, 70_000, 0])}, ("recall@1000",))
    assert users.ranks["train"].dtype == np.uint32
    assert users.to_frame()["recall@1000|train"].tolist() == [1.0, 0.0, 0.0]


def test_a_single_mask_that_ranks_do_not_explain_keeps_all_values():
    ranked = PerUser.from_ranks({"train": np.array([1, 2, 0])}, ("recall@10", "ndcg@10")).to_frame()
    frame = ranked.assign(**{"recall@10|none": [0.5, 0, 1], "ndcg@10|none": [0.25, 0, 1]})
    again = PerUser.from_frame(frame)
    assert not again.ranks and len(again.values) == 4


def test_metrics_without_ndcg_or_mrr_are_kept_as_values():
    frame = pd.DataFrame({"recall@10|train": [1.0, 0.0]})
    assert PerUser.from_frame(frame).to_frame().equals(frame)


def test_ranks_may_stand_beside_metrics_but_not_contradict_them():
    frame = PerUser.from_ranks({"train": np.array([1, 2, 0])}).to_frame()
    assert PerUser.from_frame(frame.assign(**{"rank|train": [1, 2, 0]})).ranks["train"].tolist() == [1, 2, 0]
    with pytest.raises(ValueError, match="mask 'train' contradict"):
        PerUser.from_frame(frame.assign(**{"rank|train": [1, 3, 0]}))


def test_ranks_alone_stand_for_the_usual_metrics():
    again = PerUser.from_frame(pd.DataFrame({"rank|train": [4, 0]}))
    assert list(again.to_frame()) == [f"{metric}|train" for metric in METRICS]


@pytest.mark.parametrize(
    "column", ["recall@10", "recall|train", "user", "recall@ten|train", "rank|", "@3|train"]
)
def test_columns_of_another_form_are_refused(column):
    with pytest.raises(ValueError, match="neither 'metric@k"):
        PerUser.from_frame(pd.DataFrame({column: [1.0]}))


def test_columns_must_be_of_one_length():
    with pytest.raises(ValueError, match="common length"):
        PerUser.from_ranks({"train": np.zeros(3, int), "none": np.zeros(4, int)})


def test_means_are_over_users():
    means = PerUser.from_ranks({"none": np.array([1, 0, 15, 0])}).means()
    assert means == {
        "none": {"recall@10": 0.25, "ndcg@10": 0.25, "recall@20": 0.5, "ndcg@20": (1 + 1 / math.log2(16)) / 4}
    }


@pytest.mark.parametrize("hit_rate", [0.12, 1.0], ids=["as measured", "worst case"])
def test_the_largest_leave_one_out_set_is_small(tmp_path, hit_rate):
    """Sports: 35,598 users, two masks; 300 kB may be committed."""
    rng = np.random.default_rng(0)
    masks = {
        mask: rng.integers(1, 21, 35_598) * (rng.random(35_598) < hit_rate) for mask in ("train", "none")
    }
    path = tmp_path / "per_user.parquet"
    PerUser.from_frame(PerUser.from_ranks(masks).to_frame()).write(path)
    assert path.stat().st_size < (20_000 if hit_rate < 1 else 60_000)
    assert PerUser.read(path).ranks["none"].tolist() == masks["none"].tolist()


def test_the_largest_rated_set_is_small(tmp_path):
    """ML-1M: 6,040 users with many test items, six metrics, two masks."""
    rng = np.random.default_rng(0)
    names = [f"{m}@{k}|{mask}" for m in ("recall", "ndcg") for k in (5, 10, 20) for mask in ("train", "none")]
    path = tmp_path / "per_user.parquet"
    PerUser.from_frame(pd.DataFrame(rng.random((6_040, len(names))), columns=names)).write(path)
    assert path.stat().st_size < 300_000


def test_equal_results_give_equal_bytes(tmp_path):
    for name in "ab":
        PerUser.from_ranks({"train": np.array([3, 0, 9])}).write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_one_column_is_the_frames_column():
    rng = np.random.default_rng(2)
    for users in (
        PerUser.from_ranks({"none": rng.integers(0, 21, 40)}, ["recall@5", "ndcg@20"]),
        PerUser.from_frame(
            pd.DataFrame({"precision@10|train": rng.random(40), "recall@5|none": rng.random(40)})
        ),
        PerUser.from_ranks({"none": np.zeros(3, int)}),
    ):
        frame = users.to_frame()
        told = {f"{metric}|{mask}" for mask in ("none", "train") for metric in users.metric_names(mask)}
        assert told == set(frame.columns)
        for name in frame.columns:
            np.testing.assert_array_equal(users.column(*name.split("|")), frame[name])
        with pytest.raises(KeyError):
            users.column("recall@7", "none")
