"""RecBole's quick start, download and hyper-parameter search: why the suite has its own."""

import inspect
from typing import Any

import pytest
import torch
from recbole.data.dataset import Dataset
from recbole.utils import get_model


def test_a_mistyped_model_is_reported_as_a_missing_package() -> None:
    with pytest.raises(ModuleNotFoundError, match="lightgbm"):
        get_model("LightGNC")


def test_a_model_in_lower_case_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'bpr'"):
        get_model("bpr")


def test_download_waits_for_other_processes_in_a_run_of_one() -> None:
    """After a download, the rank that did it calls a barrier without asking whether there is a group."""
    assert "torch.distributed.barrier()" in inspect.getsource(Dataset._download)
    assert "is_initialized" not in inspect.getsource(Dataset._download)
    with pytest.raises(ValueError, match="process group"):
        torch.distributed.barrier()


def test_its_search_reports_the_test_metric_once_in_a_form_ray_refuses() -> None:
    tune = pytest.importorskip("ray.tune")
    from recbole.quick_start import objective_function

    source = inspect.getsource(objective_function)
    assert source.count("tune.report(") == 1
    assert "tune.report(**test_result)" in source
    with pytest.raises(TypeError, match="metrics"):
        inspect.signature(tune.report).bind(**{"recall@10": 0.1})


def test_a_data_set_that_is_not_there_is_looked_up_by_name(config: Any) -> None:
    settings = config("BPR", dataset="no-such-data")
    with pytest.raises(ValueError, match="Neither"):
        Dataset(settings)
