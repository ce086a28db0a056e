"""Settings that RecBole takes without a word, or takes from elsewhere."""

from typing import Any

import pytest
from recbole.data import create_dataset, data_preparation
from recbole.model.abstract_recommender import SequentialRecommender

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.refuse import check_config
from recbole_llmgraph.model.baseline.sasrec import SASRec, SASRecSettings


class NameOfOurOwn(SequentialRecommender):
    """A sequential model that RecBole has no yaml for."""


def test_an_unknown_setting_is_none(config: Any) -> None:
    settings = config("BPR", learning_rte=0.5)
    assert settings["learning_rte"] == 0.5
    assert settings["learning_rate"] == 0.001
    assert settings["no_such_setting"] is None


def test_our_settings_refuse_it_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="Did you mean 'learning_rate'"):
        SASRecSettings.read({"learning_rte": 0.5})


def test_text_values_are_evaluated(config: Any) -> None:
    assert config("BPR", some_path="1+1")["some_path"] == 2


def test_ml_100k_is_always_the_copy_in_the_wheel(config: Any, tmp_path: Any) -> None:
    assert "dataset_example" in config("BPR", dataset="ml-100k", data_path=str(tmp_path))["data_path"]
    assert config("BPR", data_path=str(tmp_path))["data_path"] == str(tmp_path / "tiny")


def test_defaults_come_from_recboles_yaml_by_the_class_name(config: Any) -> None:
    ours = config(NameOfOurOwn, loss_type="BPR", eval_args={"split": {"LS": "valid_and_test"}})
    assert config(SASRec, train_neg_sample_args=None)["hidden_size"] == 64
    assert ours["hidden_size"] is None
    assert ours["repeatable"] is True  # from the yaml of all sequential models


def test_a_sequential_model_needs_repeatable_and_order_by_time(config: Any) -> None:
    with pytest.raises(ValueError, match="repeatable"):
        config(NameOfOurOwn, loss_type="BPR", repeatable=False)
    shuffled = {"split": {"LS": "valid_and_test"}, "order": "RO", "group_by": "user", "mode": "full"}
    settings = config(NameOfOurOwn, loss_type="BPR", eval_args=shuffled)
    with pytest.raises(ValueError, match="'TO'"):
        data_preparation(settings, create_dataset(settings))


def test_cross_entropy_refuses_the_default_negatives(config: Any) -> None:
    with pytest.raises(ValueError, match="should be None"):
        config("SASRec")
    sampling = config(SASRec, **SASRec.recbole_config(SASRecSettings()))["train_neg_sample_args"]
    assert sampling["distribution"] == "none"


@pytest.mark.parametrize("model", ["SASRec", "BPR", "Pop"])
def test_proper_configurations_pass(config: Any, model: str) -> None:
    negatives = {} if model == "BPR" else {"train_neg_sample_args": None}
    check_config(config(model, **negatives))
