"""Tables of earlier stages: none, of the right split, of another one."""

from pathlib import Path

import pytest
import torch

from recbole_llmgraph.artifact.tables import save_table
from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.model.tables import checked_table


@pytest.fixture
def file(tmp_path: Path) -> str:
    save_table(tmp_path / "t.safetensors", ["a", "b"], torch.ones(2, 3), {"training_fingerprint": "mine"})
    return str(tmp_path / "t.safetensors")


def test_a_table_of_this_split_is_read(file: str) -> None:
    table = checked_table(file, "item_vectors", "GALRec", "mine")
    assert table.tokens == ["a", "b"] and table.rows.shape == (2, 3)


def test_what_saw_no_interactions_fits_every_split(file: str) -> None:
    assert checked_table(file, "item_vectors", "GALRec", None).tokens == ["a", "b"]


def test_a_table_that_nobody_made_is_answered_with_the_command() -> None:
    with pytest.raises(
        UserError, match=r"GALRec needs item_vectors: .*recbole_settings.*run\.py --model=GALRec"
    ):
        checked_table("", "item_vectors", "GALRec", "mine")


@pytest.mark.parametrize("meta", [{"training_fingerprint": "other"}, {}])
def test_a_table_of_another_split_is_refused(meta: dict[str, str], tmp_path: Path) -> None:
    save_table(tmp_path / "o.safetensors", ["a"], torch.ones(1, 3), meta)
    with pytest.raises(UserError, match=r"user_vectors=.*o\.safetensors was trained on another split"):
        checked_table(str(tmp_path / "o.safetensors"), "user_vectors", "GALRec", "mine")


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.safetensors: no such file"):
        checked_table(str(tmp_path / "gone.safetensors"), "item_vectors", "GALRec", "mine")
