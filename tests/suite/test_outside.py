"""Models that are not of this repository: `--model package.module:Class`."""

import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from recbole_llmgraph.model.catalogue import model_card
from recbole_llmgraph.store.runs import read_run
from recbole_llmgraph.suite.command import run_command

MODULE = '''
import torch
from recbole.model.abstract_recommender import GeneralRecommender, SequentialRecommender
from recbole.utils import InputType
from recbole_llmgraph.train.settings import TrainSettings


class MineSettings(TrainSettings):
    """Settings of my model."""
    epochs: int = 2
    width: int = 4


class Mine(GeneralRecommender):
    """Dot products."""
    input_type = InputType.PAIRWISE
    settings = MineSettings

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.users = torch.nn.Embedding(self.n_users, config["width"])
        self.items = torch.nn.Embedding(self.n_items, config["width"])

    def calculate_loss(self, rows):
        user, good, bad = (rows[field] for field in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        better = (self.users(user) * (self.items(good) - self.items(bad))).sum(1)
        return -torch.nn.functional.logsigmoid(better).mean()

    def predict(self, rows):
        return (self.users(rows[self.USER_ID]) * self.items(rows[self.ITEM_ID])).sum(1)

    def full_sort_predict(self, rows):
        return (self.users(rows[self.USER_ID]) @ self.items.weight.T).view(-1)


class Last(SequentialRecommender):
    """What came last says it all; nothing is trained, and there are no settings of its own."""
    input_type = InputType.PAIRWISE

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.bias = torch.nn.Parameter(torch.zeros(self.n_items))

    def calculate_loss(self, rows):
        return torch.nn.functional.cross_entropy(self.bias.expand(len(rows), -1), rows[self.POS_ITEM_ID])

    def predict(self, rows):
        return self.bias[rows[self.ITEM_ID]]

    def full_sort_predict(self, rows):
        last = rows[self.ITEM_SEQ].gather(1, rows[self.ITEM_SEQ_LEN].view(-1, 1) - 1)
        nearer = -(torch.arange(self.n_items) - last).abs().float()
        return (nearer + self.bias).view(-1)
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a user's module, in which the command is typed."""
    (tmp_path / "my_models.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_models", raising=False)  # another test's, from another folder
    return tmp_path


@pytest.mark.parametrize(
    ("name", "sets"), [("Mine", ["--set=width=8", "--set=learning_rate=0.05"]), ("Last", ["--set=epochs=1"])]
)
def test_a_users_own_class_runs(
    name: str, sets: list[str], here: Path, command_line: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [part for part in command_line(f"my_models:{name}", here / "runs") if not part.startswith("--set")]
    assert run_command("", [*line, *sets]) == 0
    (folder,) = (here / "runs" / "mini" / name).iterdir()
    record = read_run(folder)
    assert record.model == name and record.epochs_run == (2 if name == "Mine" else 1)
    assert (record.settings.get("width") == 8) == (name == "Mine")
    assert name in capsys.readouterr().out
    assert run_command("", [*line, *sets]) == 0
    assert "finished already" in capsys.readouterr().err


def test_its_settings_are_checked_too(
    here: Path, command_line: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [part for part in command_line("my_models:Mine", here / "runs") if not part.startswith("--set")]
    assert run_command("", [*line, "--set=widht=8"]) == 2
    assert "no setting of Mine 'widht'. Did you mean 'width'?" in capsys.readouterr().err


def test_recboles_own_class_runs_and_its_family_is_seen(
    here: Path, command_line: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "recbole.model.general_recommender.bpr:BPR"
    line = [part for part in command_line(name, here / "runs") if not part.startswith("--set")]
    assert run_command("", [*line, "--set=epochs=1"]) == 0
    assert model_card(name).family == "general"
    assert model_card("recbole.model.sequential_recommender.gru4rec:GRU4Rec").family == "sequential"
    capsys.readouterr()
    assert run_command("", [f"--describe={name}"]) == 0
    assert "epochs" in capsys.readouterr().out
