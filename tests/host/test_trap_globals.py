"""What RecBole reads from and writes to the process it runs in."""

import importlib
import logging
import os
import sys
import warnings
from typing import Any

import colorama
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.utils import init_logger

from recbole_llmgraph.host import originals
from recbole_llmgraph.host.seam import keep_environment, sealed, shield_argv

VALUES = {"data_path": "."}


def test_config_takes_and_evaluates_command_line_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--epochs=1+1", "--seeds=1,2,3", "--topk=[7]"])
    with keep_environment():
        swallowed = Config(model="BPR", dataset="tiny", config_dict=VALUES)
        with shield_argv():
            shielded = Config(model="BPR", dataset="tiny", config_dict=VALUES)
    assert (swallowed["epochs"], swallowed["seeds"], swallowed["topk"]) == (2, (1, 2, 3), [7])
    assert (shielded["epochs"], shielded["seeds"], shielded["topk"]) == (300, None, [10])
    assert sys.argv[1] == "--epochs=1+1"


def test_arguments_come_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--x=1"])
    with pytest.raises(RuntimeError), shield_argv():
        assert sys.argv == ["run.py"]
        raise RuntimeError
    assert sys.argv == ["run.py", "--x=1"]


@pytest.mark.parametrize("before", ["3", None])
def test_config_overwrites_the_visible_gpus(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    if before is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    with sealed():
        Config(model="BPR", dataset="tiny", config_dict=VALUES)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def test_threads_and_warning_filters_are_kept() -> None:
    threads, filters = torch.get_num_threads(), list(warnings.filters)
    with keep_environment():
        torch.set_num_threads(threads + 1)
        warnings.simplefilter("error")
    assert torch.get_num_threads() == threads
    assert list(warnings.filters) == filters


def test_importing_sine_switches_anomaly_detection_on() -> None:
    from recbole.model.sequential_recommender import sine

    with sealed():
        importlib.reload(sine)
        assert torch.is_anomaly_enabled()
    assert not torch.is_anomaly_enabled()


def test_importing_our_baselines_does_not() -> None:
    assert "recbole.model.sequential_recommender.sine" in sys.modules
    assert originals.SASRec
    assert not torch.is_anomaly_enabled()


def test_a_second_logger_writes_into_the_first_ones_file(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    try:
        init_logger(config("BPR"))
        first = [
            handler.baseFilename for handler in logging.root.handlers if hasattr(handler, "baseFilename")
        ]
        init_logger(config("LightGCN"))
        second = [
            handler.baseFilename for handler in logging.root.handlers if hasattr(handler, "baseFilename")
        ]
    finally:
        colorama.deinit()
        for handler in logging.root.handlers:
            handler.close()
    assert first == second
    assert "BPR" in second[0]


def test_recboles_pandas_warnings_stay_inside(config: Any) -> None:
    settings = config("BPR")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with keep_environment():
            create_dataset(settings)
            warnings.warn("somebody else's", FutureWarning, stacklevel=1)
        create_dataset(settings)
    said = [str(warning.message) for warning in heard]
    assert "somebody else's" in said[0]
    assert any("chained assignment" in text for text in said[1:])
