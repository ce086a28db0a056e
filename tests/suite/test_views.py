"""The picture of views, from the command to its files."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from recbole_llmgraph.suite.nodes import node_points
from recbole_llmgraph.suite.restore import restored
from recbole_llmgraph.suite.run import Runner
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


def test_nodes_of_graph_models_lie_beside_each_other(
    miniature: Any,
    command_line: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = command_line("LightGCN,XSimGCL", tmp_path / "runs", "--set=epochs=1", "--with=noise=0.0,tau=0.5")
    assert views_command("", [*line, "--rows=20", "--dry-run"]) == 0
    planned = capsys.readouterr().out.splitlines()
    assert ["noise=0.0" in line for line in planned] == [False, False, True]
    assert not (tmp_path / "runs").exists()
    assert views_command("", [*line, "--rows=20", "--side=item"]) == 0
    told = capsys.readouterr().out
    names = {path.suffix: path for path in Path("reports/figures").iterdir()}
    assert names[".csv"].stem == f"nodes-{miniature.card.name}-LightGCN-XSimGCL-item"
    points = pd.read_csv(names[".csv"])
    assert (points["view"].value_counts() == 20).all()
    shown = list(points["view"].unique())
    assert [name.split()[0] for name in shown] == ["LightGCN", "XSimGCL", "XSimGCL"]
    assert ["noise=0.0" in name and "tau=0.5" in name for name in shown] == [False, False, True]
    assert all(name in told for name in shown)
    facts = points.groupby("view").first()
    assert facts["own"].isna().to_dict() == {name: name.startswith("Light") for name in facts.index}
    assert facts["first"].between(1 / 20, 1).all() and (facts["uniformity"] < 0).all()
    assert (facts["own"] > facts["others"]).sum() == 2


@pytest.mark.parametrize("side", ["user", "item"])
def test_agreement_is_that_of_a_loop(side: Any, workshop: Any) -> None:
    cell = workshop.cell("SimGCL", epochs=1)
    runner = Runner(workshop.house)
    points = node_points(runner, [cell], side, 12)
    model, split = restored(runner, cell)
    field = split.dataset.uid_field if side == "user" else split.dataset.iid_field
    met = sorted(set(split.dataset.inter_feat[field].tolist()))
    drawn = sorted(np.random.default_rng(0).choice(met, 12, replace=False))
    first = 0 if side == "user" else model.n_users
    torch.manual_seed(0)
    views = model.encoder(model.nodes.weight.detach())
    own, others = [], []
    for a in drawn:
        for b in drawn:
            cosine = F.cosine_similarity(views.anchor[first + a], views.other[first + b], dim=0)
            (own if a == b else others).append(float(cosine))
    assert points["own"].unique() == pytest.approx([np.mean(own)], abs=1e-5)
    assert points["others"].unique() == pytest.approx([np.mean(others)], abs=1e-5)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (["--model=GALRec,LightGCN"], "GALRec is drawn alone"),
        (["--with=tau=0.1"], "GALRec is drawn alone"),
        (["--dataset=beauty,toys"], "one --dataset"),
        (["--model=HeLLM"], "HeLLM keeps no table of users"),
        (["--model=XSimGCL", "--with=tau=0.2"], "XSimGCL is named twice"),
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
