"""What is finished stays finished, what is lost is made again, and what is shared is made once."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from recbole_llmgraph.artifact.tables import load_table
from recbole_llmgraph.store.runs import publish, read_run
from recbole_llmgraph.suite.cell import variant_name
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.leave import read_candidates
from recbole_llmgraph.suite.run import Runner


class Counting:
    """A runner that counts the epochs it trains, a model each."""

    def __init__(self, house: House, always: bool = False) -> None:
        self.epochs: Counter[str] = Counter()
        self.model = ""
        self.runner = Runner(house, always=always, on_epoch=self._count)
        train = self.runner._train

        def named(cell: Any, key: str) -> Any:
            given = self.runner.provide(cell)  # stages first, under their own names
            assert given is not None
            self.model = cell.model.name
            return train(cell, key)

        self.runner._train = named  # type: ignore[method-assign]

    def _count(self, entry: dict[str, Any]) -> None:
        self.epochs[self.model] += 1

    def run(self, cell: Any) -> Any:
        return self.runner.run(cell)


EPOCHS = {"HeLLMPre": 4, "SASRec": 3, "HeLLM": 3}


@pytest.fixture(scope="module")
def finished(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> House:
    """A house in which HeLLM and its stages are finished."""
    root = tmp_path_factory.mktemp("finished") / "runs"
    house = House(store=root, data=workshop.miniature.data, source=workshop.miniature.source)
    counting = Counting(house)
    counting.run(workshop.cell("HeLLM"))
    assert counting.epochs == EPOCHS
    return house


@pytest.fixture
def copy(finished: House, tmp_path: Path) -> House:
    """A copy to be spoiled."""
    shutil.copytree(finished.store, tmp_path / "runs")
    return House(store=tmp_path / "runs", data=finished.data, source=finished.source)


def test_one_command_finishes_every_stage_and_leaves_nothing_behind(finished: House) -> None:
    folders = sorted(path.relative_to(finished.store).parts[:2] for path in finished.store.glob("mini/*/*"))
    assert folders == [("mini", "HeLLM"), ("mini", "HeLLMPre"), ("mini", "SASRec")]
    left = [path for path in finished.store.rglob("*") if "work" in path.parts or path.name.startswith(".")]
    assert not [path for path in left if path.is_file() and path.suffix != ".lock"]


def test_what_is_finished_is_not_trained_again(copy: House, workshop: Any) -> None:
    counting = Counting(copy)
    for name in ("HeLLM", "HeLLMPre", "SASRec"):
        record = counting.run(workshop.cell(name))
        assert record.model == name
    assert not counting.epochs


def test_shared_stages_are_trained_once(copy: House, workshop: Any) -> None:
    counting = Counting(copy)
    counting.run(workshop.cell("HeLLM", prefix="learned"))
    assert counting.epochs == {"HeLLM": 3}
    counting.run(workshop.cell("HeLLM", use_graph_id=False))
    assert counting.epochs == {"HeLLM": 6}


def test_what_selected_a_row_serves_as_a_stage(workshop: Any, tmp_path: Path) -> None:
    """Under a hold-out a row's selection and the stage that later models select on are one training."""

    def house(name: str) -> House:
        made = workshop.miniature
        return House(store=tmp_path / name, data=made.data, source=made.source)

    row = workshop.cell("XSimGCL", protocol="sign", held_out=False)
    Runner(house("one")).run(row)
    trained: list[dict[str, Any]] = []
    after = Runner(house("one"), on_epoch=trained.append)
    alone = Runner(house("two"), on_epoch=trained.append)
    found, table = after.candidates(row.selecting), after.table(row.selecting, "item")
    assert not trained
    assert table != after.table(row, "item") and not trained
    pd.testing.assert_frame_equal(read_candidates(found), read_candidates(alone.candidates(row.selecting)))
    assert len(trained) == row.settings.epochs
    same = load_table(alone.table(row.selecting, "item"))
    assert torch.equal(load_table(table).rows, same.rows)


@pytest.mark.parametrize(("typed", "read"), [("off", "gal=False"), (False, "gal=False"), (0, "gal=False")])
def test_one_setting_has_one_name_however_it_was_typed(typed: Any, read: str, workshop: Any) -> None:
    """`gal=off` and `gal=false` were two rows of a leaderboard, seeds of one and the same model."""
    assert read in variant_name(workshop.cell("GALRec", gal=typed)).split()


def preset_of_today(cell: Any) -> Any:
    """The cell, had its preset meanwhile taken over all its settings."""
    presets = {cell.preset: cell.settings.model_dump()}
    return replace(cell, model=cell.model.model_copy(update={"presets": presets}))


def test_a_finished_run_is_named_by_what_its_preset_says_today(copy: House, workshop: Any) -> None:
    """A preset may take over a value that a run was once typed with: the same run, without a change."""
    cell = workshop.cell("SASRec", epochs=7)
    assert "epochs=7" in variant_name(cell).split()
    assert variant_name(preset_of_today(cell)) == ""
    (folder,) = copy.store.glob("mini/SASRec/*")
    was = read_run(folder)
    counting = Counting(copy)
    found = counting.run(preset_of_today(workshop.cell("SASRec")))
    assert not counting.epochs and was.variant and found.variant == ""
    assert read_run(folder).model_copy(update={"variant": was.variant}) == was


def test_a_finished_run_needs_no_artifacts(copy: House, workshop: Any) -> None:
    """As on a fresh clone, where runs are committed and artifacts are not."""
    shutil.rmtree(copy.store / "artifacts")
    counting = Counting(copy)
    counting.run(workshop.cell("HeLLM"))
    assert not counting.epochs


def test_runs_committed_with_the_checkout_count_as_finished(
    copy: House, workshop: Any, tmp_path: Path
) -> None:
    (folder,) = copy.store.glob("mini/HeLLM/*")
    publish(folder, tmp_path / "reports")
    clone = House(
        store=tmp_path / "fresh", data=copy.data, source=copy.source, committed=tmp_path / "reports"
    )
    counting = Counting(clone)
    assert counting.run(workshop.cell("HeLLM")).key == folder.name
    assert not counting.epochs


def tables(house: House) -> dict[str, Any]:
    found = (load_table(path) for path in house.store.glob("artifacts/item_table/*/table.safetensors"))
    return {table.meta["model"]: table for table in found}


def test_lost_artifacts_are_made_again_to_the_same_bit(copy: House, workshop: Any) -> None:
    before = tables(copy)
    stored = {path: path.read_bytes() for path in copy.store.glob("mini/*/*/run.json")}
    shutil.rmtree(copy.store / "artifacts")
    counting = Counting(copy)
    counting.run(workshop.cell("HeLLM", prefix_length=2))
    assert counting.epochs == EPOCHS
    after = tables(copy)
    assert before.keys() == after.keys() == {"HeLLMPre", "SASRec"}
    for name, table in before.items():
        assert table.meta == after[name].meta and table.tokens == after[name].tokens
        assert bool((table.rows == after[name].rows).all())
    assert all(path.read_bytes() == text for path, text in stored.items())  # finished runs stand


def test_a_damaged_run_is_trained_again(copy: House, workshop: Any) -> None:
    (folder,) = copy.store.glob("mini/SASRec/*")
    was = read_run(folder).metrics
    (folder / "per_user.parquet").write_bytes(b"cut short")
    counting = Counting(copy)
    counting.run(workshop.cell("SASRec"))
    assert counting.epochs == {"SASRec": 3}
    assert read_run(folder).metrics == was


def test_always_trains_again_and_ends_alike(copy: House, workshop: Any) -> None:
    (folder,) = copy.store.glob("mini/HeLLM/*")
    was = read_run(folder)
    counting = Counting(copy, always=True)
    again = counting.run(workshop.cell("HeLLM"))
    assert counting.epochs == {"HeLLM": 3}
    assert again.metrics == was.metrics and again.key == was.key
    assert read_run(folder).finished >= was.finished


def test_a_record_tells_what_a_row_needs_to_be_believed(finished: House, workshop: Any) -> None:
    (folder,) = finished.store.glob("mini/HeLLM/*")
    record = read_run(folder)
    split = workshop.split(workshop.cell("LightGCN"))
    assert record.split_fingerprint == split.fingerprint
    assert (record.test_users, record.candidates, record.single_target) == (72, 48, True)
    assert record.mask == "train" and set(record.metrics["test"]) == set(record.metrics["valid"]) == {
        "none",
        "train",
    }
    assert record.backbone == "builtin:llama-mini"
    assert {stage.model for stage in record.stages} == {"HeLLMPre", "SASRec"}
    for stage in record.stages:
        assert finished.find("mini", stage.model, stage.key) is not None
    assert record.parameters is not None and record.parameters.trained <= record.parameters.total
    assert record.cost.seconds_per_epoch and record.cost.eval_users_per_second and record.cost.peak_memory_mb
    assert record.epochs_run == 3 and record.best_epoch in (1, 2, 3)
    assert not {"graph_embedding", "sequence_embedding", "item_texts"} & record.settings.keys()
    assert str(finished.store) not in (folder / "run.json").read_text()  # no path of this machine


def test_rows_say_what_text_and_images_were_read(finished: House, make_workshop: Any, tmp_path: Path) -> None:
    (folder,) = finished.store.glob("mini/HeLLMPre/*")
    alone = read_run(folder)
    assert alone.text_encoder == "hashed TF-IDF + SVD-16 (not a language model)"
    assert "no item images in this dataset: text alone" in alone.notes
    illustrated = make_workshop(images=True)
    cell = illustrated.cell("HeLLMPre", epochs=1)
    both = Runner(illustrated.house).run(cell)
    assert not any("image" in note for note in both.notes)
    without = Runner(illustrated.house).run(illustrated.cell("HeLLMPre", epochs=1, use_i2i=False))
    assert without.text_encoder is None


def test_recommended_items_lie_beside_the_record(finished: House, workshop: Any) -> None:
    (folder,) = finished.store.glob("mini/SASRec/*")
    top = pd.read_parquet(folder / "topk.parquet")
    parts = workshop.miniature.parts()
    assert set(top["user"]) == set(parts) and list(top.columns) == ["user", "items|none", "items|train"]
    hits = []
    for user, items in zip(top["user"], top["items|train"], strict=True):
        offered = items.split()
        assert len(offered) == 20 and not set(offered) & set(parts[user]["train"])
        hits.append(parts[user]["test"] in offered)
    assert sum(hits) / len(hits) == pytest.approx(read_run(folder).metrics["test"]["train"]["recall@20"])
    epochs = pd.read_csv(folder / "epochs.csv")
    assert list(epochs["epoch"]) == [1, 2, 3] and epochs["valid"].notna().all()
