"""A tiny data set and RecBole's plain road to it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation

from recbole_llmgraph.host.seam import sealed

#: Evaluation arguments of the leave-one-out protocol.
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
Plain = Callable[..., Any]


@pytest.fixture(scope="session")
def atomic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny/tiny.inter` and `.item`: 60 users, 40 items; item `late` is test target only."""
    folder = tmp_path_factory.mktemp("atomic")
    rng = np.random.default_rng(7)
    rows = []
    for user in range(1, 61):
        history = rng.choice(40, size=int(rng.integers(4, 18)), replace=False, p=_weights(40))
        rows += [f"u{user}\ti{item}\t{time}" for time, item in enumerate(history)]
        if user % 3 == 0:
            rows.append(f"u{user}\tlate\t99")
    (folder / "tiny").mkdir()
    head = "user_id:token\titem_id:token\ttimestamp:float"
    (folder / "tiny" / "tiny.inter").write_text("\n".join([head, *rows]) + "\n")
    lines = ["item_id:token\tattributes:token_seq\tbrand:token\tprice:float"]
    for item in range(0, 40, 2):  # odd items have no line: RecBole has to fill gaps
        labels = " ".join(f"a{label}" for label in rng.choice(9, size=int(rng.integers(1, 5)), replace=False))
        lines.append(f"i{item}\t{labels}\tb{item % 4}\t{item / 2}")
    (folder / "tiny" / "tiny.item").write_text("\n".join(lines) + "\n")
    return folder


def _weights(n: int) -> np.ndarray:
    weights = 1.0 / np.arange(1, n + 1)
    return weights / weights.sum()


@pytest.fixture
def config(atomic: Path) -> Plain:
    """Function: model (class or name) and values -> RecBole's `Config` on the tiny data."""

    def make(model: Any, dataset: str = "tiny", **values: Any) -> Any:
        common = {
            "data_path": str(atomic),
            "seed": 5,
            "state": "WARNING",
            "show_progress": False,
            "eval_args": LEAVE_ONE_OUT,
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "MAX_ITEM_LIST_LENGTH": 12,
        }
        with sealed():
            return Config(model=model, dataset=dataset, config_dict={**common, **values})

    return make


@pytest.fixture
def loaders(config: Plain) -> Plain:
    """Function: model and values -> (config, training, validation and test loader)."""

    def make(model: Any, **values: Any) -> Any:
        made = config(model, **values)
        return (made, *data_preparation(made, create_dataset(made)))

    return make


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """RecBole writes logs and checkpoints into the working folder, and seeds nothing by itself."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    np.random.seed(0)
    yield
