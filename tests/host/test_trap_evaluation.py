"""How RecBole turns scores into numbers."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.metrics import AUC
from recbole.trainer import Trainer


def _hits(n_users: int, n_right: int) -> DataStruct:
    """`n_right` users find their one item at rank 1."""
    matrix = torch.zeros(n_users, 11, dtype=torch.int32)
    matrix[:n_right, 0] = 1
    matrix[:, 10] = 1
    struct = DataStruct()
    struct.set("rec.topk", matrix)
    return struct


def test_four_decimals_hide_one_user_among_beautys(config: Any) -> None:
    rounded = Evaluator(config("BPR", metrics=["Recall"]))
    exact = Evaluator(config("BPR", metrics=["Recall"], metric_decimal_place=12))
    few, more = _hits(22_363, 999), _hits(22_363, 1_000)
    assert rounded.evaluate(few) == rounded.evaluate(more)
    assert exact.evaluate(more)["recall@10"] - exact.evaluate(few)["recall@10"] == pytest.approx(1 / 22_363)


def test_per_user_values_are_averaged_away(config: Any) -> None:
    evaluator = Evaluator(config("BPR", metrics=["Recall"], metric_decimal_place=12))
    struct = _hits(5, 2)
    assert dict(evaluator.evaluate(struct)) == {"recall@10": 0.4}
    metric = evaluator.metric_class["recall"]
    per_user = metric.metric_info(*metric.used_info(struct))[:, 9]
    assert per_user.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_only_general_models_are_masked(loaders: Any) -> None:
    general = next(iter(loaders("BPR")[3]))
    sequential = next(iter(loaders("SASRec", train_neg_sample_args=None)[3]))
    _, history_items = general[1]
    assert len(history_items) > len(general[0])
    assert sequential[1] is None


def test_the_mask_of_general_models_holds_validation_items_at_test_time(loaders: Any) -> None:
    _, _, valid, test = loaders("BPR")
    user = int(valid.uid_list[0])
    target = valid.uid2positive_item[user].tolist()
    assert set(target) <= set(test.uid2history_item[user].tolist())


@pytest.mark.parametrize("users", [1, 5])
def test_evaluation_batches_shrink_with_the_catalogue(loaders: Any, users: int) -> None:
    n_items = loaders("BPR")[1]._dataset.item_num
    _, _, _, test = loaders("BPR", eval_batch_size=users * n_items + n_items - 1)
    assert test.step == users
    _, _, _, test = loaders("BPR", eval_batch_size=n_items - 1)  # 4,096 against 12,101 items, say
    assert test.step == 1


def test_auc_is_not_the_mean_of_the_processes_aucs() -> None:
    """`Trainer._map_reduce` takes the mean over processes, weighted by their rows."""
    assert "torch.sum(gather_result[key]).item() / total_sample" in inspect.getsource(Trainer._map_reduce)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    scores = (
        rng.normal(size=200) + labels + np.repeat([0.0, 5.0], 100)
    )  # one process scores higher throughout
    auc = AUC({"metric_decimal_place": 12})
    halves = [auc.metric_info(scores[part], labels[part]) for part in (slice(0, 100), slice(100, 200))]
    assert abs(np.mean(halves) - auc.metric_info(scores, labels)) > 0.1
