"""RecBole's `Config` as the suite builds it, and the road of settings through it."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.config import METRICS, PROTOCOLS, TOPK, make_config, measured, recbole_values
from recbole_llmgraph.host.models import config_values, read_settings
from recbole_llmgraph.model.baseline.bpr import BPR, BPRSettings
from recbole_llmgraph.model.hellm import HeLLM, HeLLMSettings
from recbole_llmgraph.model.hellm_pre import HeLLMPre, HeLLMPreSettings
from recbole_llmgraph.train.settings import VALID_METRICS


def values(folder: Path, family: str = "general", **more: Any) -> dict[str, Any]:
    return recbole_values(family, more, folder=folder, protocol="seq", seed=7)


def test_arguments_of_the_process_are_not_recboles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["run.py", "--learning_rate=99", "--model=HeLLM", "--topk=[1]"]
    monkeypatch.setattr(sys, "argv", line)
    config = make_config(BPR, "mini", values(tmp_path, learning_rate=0.5))
    assert config["learning_rate"] == 0.5
    assert config["topk"] == [5, 10, 20]
    assert sys.argv is line


@pytest.mark.parametrize("before", [None, "3"])
def test_visible_gpus_stay_as_they_were(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    config = make_config(BPR, "mini", values(tmp_path))
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before
    assert config["device"] == torch.device("cpu")


@pytest.mark.parametrize("text", ["1+1", "[1, 2]", "None", "1e-3", "__import__('os')", "Next: {items}"])
def test_text_stays_text(text: str, tmp_path: Path) -> None:
    assert make_config(BPR, "mini", values(tmp_path, instruction=text))["instruction"] == text


@pytest.mark.parametrize("dataset", ["ml-100k", "mini"])
def test_atomic_files_come_from_the_prepared_folder(dataset: str, tmp_path: Path) -> None:
    assert make_config(BPR, dataset, values(tmp_path / dataset))["data_path"] == str(tmp_path / dataset)


def test_metrics_keep_their_decimals_and_runs_their_seed(tmp_path: Path) -> None:
    config = make_config(BPR, "mini", values(tmp_path))
    assert config["metric_decimal_place"] == 12
    assert config["seed"] == 7
    assert config["eval_args"]["mode"] == {"valid": "full", "test": "full"}


def test_only_sequential_models_may_see_an_item_twice(tmp_path: Path) -> None:
    assert values(tmp_path, "sequential")["repeatable"] is True
    assert values(tmp_path, "general")["repeatable"] is False


def test_training_selects_by_what_is_measured() -> None:
    assert set(VALID_METRICS) == {name for protocol in PROTOCOLS for name in measured(protocol)}
    assert measured("seq") == [f"{metric.lower()}@{k}" for metric in METRICS for k in TOPK]
    assert {"precision@5", "recall@15"} <= set(measured("rate")) == set(measured("sign"))
    for name in ("recall@7", "mrr@10", "recal@20", "ndcg"):
        with pytest.raises(UserError, match=f"valid_metric='{name}': .*expected one of recall@5, recall@10"):
            HeLLMPreSettings.read({"valid_metric": name})
    assert HeLLMPreSettings.read({"valid_metric": "NDCG@20"}).valid_metric == "ndcg@20"


def test_wrong_names_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no protocol 'sec'\. Did you mean 'seq'\?"):
        recbole_values("general", {}, folder=tmp_path, protocol="sec", seed=1)
    for device in ("gpu", "cuda:x", "cuda:", "cudax", "tpu:0", "CPU"):
        with pytest.raises(UserError, match="expected cpu, cuda or cuda:N"):
            make_config(BPR, "mini", values(tmp_path), device=device)


def test_a_gpu_that_is_not_there_is_no_silent_cpu(tmp_path: Path) -> None:
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(UserError, match=f"--device {missing}: this torch sees"):
        make_config(BPR, "mini", values(tmp_path), device=missing)


def test_settings_go_through_recboles_config_and_back(tmp_path: Path) -> None:
    told = BPRSettings(clip_grad_norm=2.5, valid_metric="recall@20", learner="adamw", epochs=3)
    config = make_config(BPR, "mini", values(tmp_path, **config_values(told)))
    assert config["clip_grad_norm"] == {"max_norm": 2.5}  # RecBole's form
    assert read_settings(BPRSettings, config) == told


def test_no_clipping_goes_through_too(tmp_path: Path) -> None:
    told = BPRSettings()
    assert told.clip_grad_norm == 0
    config = make_config(BPR, "mini", values(tmp_path, **config_values(told)))
    assert config["clip_grad_norm"] is None
    assert read_settings(BPRSettings, config) == told


def test_history_length_is_recboles_too(tmp_path: Path) -> None:
    told = HeLLMSettings(max_history=9)
    config = make_config(HeLLM, "mini", values(tmp_path, "sequential", **HeLLM.recbole_config(told)))
    assert config["MAX_ITEM_LIST_LENGTH"] == 9
    assert read_settings(HeLLMSettings, config) == told


@pytest.mark.parametrize(("kind", "settings"), [(HeLLMPre, HeLLMPreSettings), (BPR, BPRSettings)])
def test_a_bare_recbole_config_is_read_with_our_defaults(kind: Any, settings: Any, tmp_path: Path) -> None:
    """A user's own script may say nothing of us: RecBole's defaults stand, `MRR@10` among them."""
    plain = {k: v for k, v in values(tmp_path).items() if k not in ("valid_metric", "metrics", "topk")}
    config = make_config(kind, "mini", plain)
    read = read_settings(settings, config)
    assert read.epochs == config["epochs"] == 300
    assert read.valid_metric == settings().valid_metric
    assert getattr(read, "alpha", 0.9) == 0.9
    config = make_config(kind, "mini", {**plain, "valid_metric": "NDCG@10", "metrics": ["NDCG"]})
    assert read_settings(settings, config).valid_metric == "ndcg@10"
