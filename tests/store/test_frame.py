"""The frame that reports are made from."""

from pathlib import Path

import pandas as pd

from recbole_llmgraph.store.frame import COLUMNS, runs_frame
from recbole_llmgraph.store.record import Code, Cost, Parameters, Stage
from recbole_llmgraph.store.runs import StoredRun


def frame_of(*records):
    return runs_frame([StoredRun(record, folder=Path("nowhere")) for record in records])


def groups(*records) -> list[str]:
    frame = frame_of(*records)
    frame = frame[frame["mask"] == "train"].set_index("key")
    return [frame.loc[record.key, "group"] for record in records]


def test_one_row_a_run_and_mask(make_run):
    record, users = make_run(
        cost=Cost(seconds_total=60.0),
        parameters=Parameters(total=5, trained=3),
        code=Code(version="0.1.0", commit="abcdef012345", dirty=True),
        stages=[Stage(model="SASRec", key="5a5")],
    )
    frame = frame_of(record, make_run(key="0ther", dataset="sports")[0])
    assert list(frame["mask"]) == ["none", "train"] * 2 and tuple(frame.columns[: len(COLUMNS)]) == COLUMNS
    row = frame.iloc[1]
    assert row["dataset"] == "beauty" and row["recall@10"] == users.means()["train"]["recall@10"]
    assert row["valid ndcg@10"] == 0.5 and pd.isna(frame.iloc[0]["valid ndcg@10"])
    assert (row["parameters_total"], row["parameters_trained"], row["seconds_total"]) == (5, 3, 60.0)
    assert row["code"] == "0.1.0 abcdef0*" and row["stages"] == (("SASRec", "5a5"),)
    assert row["settings"] == '{"n_layers":2,"tau":0.3}' and row["selection_mask"] == "train"


def test_an_empty_store_gives_an_empty_frame():
    assert runs_frame([]).empty and tuple(runs_frame([]).columns) == COLUMNS


def test_runs_that_differ_only_in_their_seed_share_a_group(make_run):
    a, b = (make_run(key=f"k{seed}", seed=seed)[0] for seed in (1, 2))
    other = make_run(key="k3", settings={"tau": 0.4})[0]
    backbone = make_run(key="k4", backbone="path:x")[0]
    selection = make_run(key="k5", mask="none")[0]
    found = groups(a, b, other, backbone, selection)
    assert found[0] == found[1] and len(set(found)) == 4


def test_stages_count_by_their_own_group(make_run):
    def pair(seed: int, tau: float):
        stage = make_run(key=f"s{seed}{int(tau * 10)}", model="SASRec", seed=seed, settings={"tau": tau})[0]
        top = make_run(
            key=f"t{seed}{int(tau * 10)}", seed=seed, stages=[Stage(model="SASRec", key=stage.key)]
        )[0]
        return stage, top

    records = [record for seed in (1, 2) for tau in (0.1, 0.2) for record in pair(seed, tau)]
    found = dict(zip([record.key for record in records], groups(*records), strict=True))
    assert found["t11"] == found["t21"] and found["t12"] == found["t22"] and found["t11"] != found["t12"]


def test_a_circle_of_stages_ends(make_run):
    a = make_run(key="a", stages=[Stage(model="B", key="b")])[0]
    b = make_run(key="b", model="B", stages=[Stage(model="HeLLM", key="a")])[0]
    assert len(groups(a, b)) == 2
