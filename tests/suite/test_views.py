"""The picture of views, from the command to its files."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recbole_llmgraph.suite.views import views_command


def test_with_and_without_gal_the_same_pairs_are_encoded(
    miniature: Any,
    command_line: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = command_line("GALRec", tmp_path / "runs", "--set=GALRec.epochs=1", "--rows=40")
    assert views_command("", [*line, "--dry-run"]) == 0
    assert [told.split(": ")[1] for told in capsys.readouterr().out.splitlines()] == [
        "gal False, 1 epochs",
        "gal True, 1 epochs",
    ]
    assert not (tmp_path / "runs").exists()
    assert views_command("", line) == 0
    names = {path.suffix: path for path in Path("reports/figures").iterdir()}
    assert sorted(names) == [".csv", ".pdf", ".png"]
    assert names[".csv"].stem == f"views-{miniature.card.name}-text-user"
    points = pd.read_csv(names[".csv"])
    assert points.groupby(["gal", "view"]).size().to_dict() == {
        (gal, view): 40 for gal in (False, True) for view in ("u0", "u1", "u2")
    }
    assert (points["x"] ** 2 + points["y"] ** 2 - 1).abs().max() < 1e-3  # four digits are written
    facts = points.groupby(["gal", "view"])[["cosine", "uniformity"]].nunique()
    assert (facts == 1).all(axis=None)
    assert points["uniformity"].nunique() == 6  # six sets of encodings, each its own


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (["--model=HeLLM"], "name --model=GALRec"),
        (["--seeds=1,2"], "one seed"),
        (["--rows=3"], "at least 10"),
    ],
)
def test_wrong_options_are_one_line(changed: list[str], told: str, capsys: Any) -> None:
    assert views_command("", ["--model=GALRec", "--dataset=beauty", *changed]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_the_listing_answers(capsys: Any) -> None:
    assert views_command("", ["--list-models"]) == 0
    assert "GALRec" in capsys.readouterr().out
