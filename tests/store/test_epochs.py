"""Seconds of an epoch from a run's log."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llmgraph.store.epochs import EPOCHS, epoch_seconds, number, read_epochs


def log(folder: Path, *rows: tuple[str, float]) -> Path:
    lines = [f"{phase},{place},0.5,{seconds}," for place, (phase, seconds) in enumerate(rows, start=1)]
    (folder / EPOCHS).write_text("\n".join(["phase,epoch,loss,seconds,valid", *lines]) + "\n")
    return folder


def test_an_epoch_that_stood_still_does_not_count(tmp_path: Path) -> None:
    assert epoch_seconds(log(tmp_path, ("train", 2), ("train", 900), ("train", 4))) == 4


def test_phases_of_other_lengths_do(tmp_path: Path) -> None:
    rows = [("pretrain", 10), ("pretrain", 10), ("pretrain", 70), ("finetune", 2)]
    assert epoch_seconds(log(tmp_path, *rows)) == pytest.approx((3 * 10 + 2) / 4)


def test_epochs_that_only_select_do_not_where_others_follow(tmp_path: Path) -> None:
    rows = [("select train", 9), ("select train", 9), ("train", 5)]
    assert epoch_seconds(log(tmp_path, *rows)) == 5
    assert epoch_seconds(log(tmp_path, *rows[:2])) == 9


@given(st.lists(st.floats(0.01, 1e4), min_size=1))
def test_a_steady_training_has_its_mean(
    tmp_path_factory: pytest.TempPathFactory, seconds: list[float]
) -> None:
    folder = log(tmp_path_factory.mktemp("log"), *(("train", seconds[0]) for _ in seconds))
    assert epoch_seconds(folder) == pytest.approx(seconds[0])


@pytest.mark.parametrize("text", ["", "phase,epoch\ntrain,1\n", "\x00", "seconds\nno number\nnan\ninf\n"])
def test_a_log_that_tells_nothing_is_none(text: str, tmp_path: Path) -> None:
    assert epoch_seconds(tmp_path) is None and read_epochs(tmp_path) == []
    (tmp_path / EPOCHS).write_text(text)
    assert epoch_seconds(tmp_path) is None


def test_numbers() -> None:
    assert [number(text) for text in ("1.5", "nan", "-inf", "", None, "x")] == [1.5, *[None] * 5]
