"""Negatives that leak the targets, and negatives that are positives."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.dataset import training_pairs
from recbole_llmgraph.host.refuse import check_config
from recbole_llmgraph.host.sampling import count_training_only

POPULARITY = {"distribution": "popularity", "sample_num": 1, "alpha": 1.0}


@pytest.mark.parametrize(
    ("model", "values"), [("BPR", {}), ("SASRec", {"loss_type": "BPR"})], ids=["general", "sequential"]
)
def test_popularity_counts_test_targets(loaders: Any, model: str, values: dict[str, Any]) -> None:
    _, *parts = loaders(model, train_neg_sample_args=POPULARITY, **values)
    train = parts[0]
    late = train._dataset.field2token_id["item_id"]["late"]  # interacted with in the test part only
    _, items = training_pairs(train._dataset)
    assert late not in items
    assert late in train._sampler.prob

    count_training_only(parts, items)
    assert late not in train._sampler.prob
    drawn = Counter(train._sampler.sampling(40_000).tolist())
    share = {item: count / len(items) for item, count in Counter(items.tolist()).items()}
    assert set(drawn) <= set(share)
    for item, expected in share.items():
        assert abs(drawn[item] / 40_000 - expected) < 5 * np.sqrt(expected / 40_000)


def test_uniform_samplers_are_left_alone(loaders: Any) -> None:
    _, *parts = loaders("BPR")
    before = [dict(vars(part._sampler)) for part in parts]
    count_training_only(parts, np.array([1, 2]))
    assert before == [dict(vars(part._sampler)) for part in parts]


def _share_of_positives(train: Any) -> float:
    users, items = training_pairs(train._dataset)
    positive = set(zip(users.tolist(), items.tolist(), strict=True))
    negatives = train._sampler.sample_by_user_ids(users, items, 5).tolist()
    return float(
        np.mean([pair in positive for pair in zip(np.tile(users, 5).tolist(), negatives, strict=True)])
    )


def test_repeatable_makes_positives_negatives(loaders: Any) -> None:
    proper = loaders("BPR")
    assert _share_of_positives(proper[1]) == 0.0
    check_config(proper[0])
    wrong = loaders("BPR", repeatable=True)
    assert _share_of_positives(wrong[1]) > 0.1
    with pytest.raises(UserError, match="repeatable"):
        check_config(wrong[0])
