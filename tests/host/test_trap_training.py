"""RecBole's trainer: when it stops, what it saves, what it forgets."""

import functools
import pickle
from typing import Any

import pytest
import torch
from recbole.trainer import Trainer
from recbole.utils import early_stopping, init_seed

from recbole_llmgraph.host import originals

QUICK = {"epochs": 2, "train_batch_size": 64, "metrics": ["NDCG"], "valid_metric": "NDCG@10"}


def _trainer(loaders: Any, **values: Any) -> tuple[Trainer, Any, Any]:
    settings, train, valid, _ = loaders("BPR", **{**QUICK, **values})
    init_seed(settings["seed"], True)
    return Trainer(settings, originals.BPR(settings, train._dataset)), train, valid


def test_a_tie_counts_as_an_improvement() -> None:
    best, since, stop, updated = early_stopping(0.5, 0.5, 3, max_step=10)
    assert (best, since, stop, updated) == (0.5, 0, False, True)


def test_patience_is_one_longer_than_it_says() -> None:
    since, stop, validations = 0, False, 0
    while not stop:
        _, since, stop, _ = early_stopping(0.1, 0.5, since, max_step=3)
        validations += 1
    assert validations == 4


def test_weights_only_loading_refuses_recboles_checkpoints(loaders: Any) -> None:
    trainer, train, _ = _trainer(loaders)
    trainer.fit(train, None, verbose=False)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        trainer.resume_checkpoint(trainer.saved_model_file)


def test_s3rec_cannot_open_its_own_pretrained_model(loaders: Any) -> None:
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "attributes"]}
    values = {"load_col": columns, "item_attribute": "attributes", "train_neg_sample_args": None}
    settings, train, _, _ = loaders("S3Rec", **values)
    trainer = Trainer(settings, originals.S3Rec(settings, train._dataset))
    trainer._save_checkpoint(0, verbose=False)
    settings["train_stage"], settings["pre_model_path"] = "finetune", trainer.saved_model_file
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        originals.S3Rec(settings, train._dataset)


def test_two_runs_in_one_second_share_a_checkpoint(loaders: Any) -> None:
    settings, train, _, _ = loaders("BPR", **QUICK)
    model = originals.BPR(settings, train._dataset)
    files = [Trainer(settings, model).saved_model_file for _ in range(4)]
    assert len(set(files)) < len(files)


def test_a_resumed_run_differs_from_one_never_stopped(loaders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", functools.partial(torch.load, weights_only=False))
    whole, train, _ = _trainer(loaders, epochs=4)
    whole.fit(train, None, verbose=False)

    first, train, valid = _trainer(loaders, epochs=2)
    first.fit(train, valid, verbose=False)
    second, train, valid = _trainer(loaders, epochs=4)  # a new process: new loader, same seed
    second.resume_checkpoint(first.saved_model_file)
    assert second.best_valid_result is None
    second.fit(train, None, verbose=False)
    assert second.train_loss_dict[3] != whole.train_loss_dict[3]


def test_lightgcn_scores_with_tables_from_before_its_weights_were_loaded(loaders: Any) -> None:
    settings, train, _, test = loaders("LightGCN")
    model = originals.LightGCN(settings, train._dataset).eval()
    batch = next(iter(test))[0]
    before = model.full_sort_predict(batch)
    model.load_state_dict({name: weight * 2 for name, weight in model.state_dict().items()})
    assert torch.equal(model.full_sort_predict(batch), before)
