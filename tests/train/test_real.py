"""The promises of the training loop on MovieLens-100K, where threads and tiles have work to share."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def movielens(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workshop on the dataset that ships inside RecBole."""
    from recbole_llmgraph.data.catalogue import dataset_card
    from recbole_llmgraph.data.prepare import prepare

    root = tmp_path_factory.mktemp("movielens")
    card = dataset_card("ml-100k")
    place = SimpleNamespace(card=card, data=root, source=None, ready=prepare(card, root))
    return type(workshop)(place, root / "runs")


SETTINGS: dict[str, dict[str, Any]] = {
    "HeLLMPre": {"embedding_size": 64, "train_batch_size": 1024, "cl_anchors": 1024, "epochs": 2},
    "LightGCN": {"embedding_size": 64, "train_batch_size": 4096, "epochs": 2},
    "SASRec": {"embedding_size": 64, "train_batch_size": 1024, "epochs": 2, "rows_per_epoch": 20_000},
    "HeLLM": {"train_batch_size": 128, "epochs": 2, "rows_per_epoch": 4_000, "prefix_length": 10},
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", SETTINGS)
def test_trainings_are_equal_to_the_bit_and_resume_to_the_bit(
    name: str, threads: int, movielens: Any, tmp_path: Path, differing: Any
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        cell = movielens.provided(movielens.cell(name, **SETTINGS[name]))

        def keep(entry: dict[str, Any]) -> None:
            if entry["epoch"] == 2:
                (tmp_path / "resumed").mkdir()
                shutil.copy(tmp_path / "whole" / "checkpoint.pt", tmp_path / "resumed")

        whole = movielens.train(cell, tmp_path / "whole", on_epoch=keep)
        again = movielens.train(cell, tmp_path / "again")
        resumed = movielens.train(cell, tmp_path / "resumed")
    finally:
        torch.set_num_threads(before)
    assert differing(whole.model, again.model) == []
    assert differing(whole.model, resumed.model) == []
    judged = [run.judge(run.model, "test") for run in (whole, again, resumed)]
    assert judged[0].per_user.equals(judged[1].per_user) and judged[0].per_user.equals(judged[2].per_user)
    assert judged[0].metrics["train"]["ndcg@20"] > 0.01
