"""Run folders: whole or absent, merged by copying, never a crash on a broken one."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.store.runs import (
    BrokenRunError,
    RunStore,
    folder_name,
    publish,
    read_run,
    read_stores,
    rename_variant,
    run_folders,
    write_record,
)


def keys(*roots: Path) -> list[str]:
    return [run.record.key for run in read_stores(roots).runs]


def test_a_run_comes_back_whole(tmp_path, make_run):
    record, users = make_run()
    log = tmp_path / "log.txt"
    log.write_text("epoch 1")
    topk = pd.DataFrame({"user": [1, 2], "items|train": ["3 4", "5 6"]})
    store = RunStore(tmp_path / "runs")
    folder = store.write(record, users.to_frame(), topk, [log])
    assert folder == tmp_path / "runs/beauty/HeLLM/a1b2c3d4e5f60718"
    assert sorted(path.name for path in folder.iterdir()) == [
        "log.txt",
        "per_user.parquet",
        "run.json",
        "topk.parquet",
    ]
    assert store.find("beauty", "HeLLM", record.key) == folder
    again = store.read(folder)
    assert set(again.files) == {"log.txt", "per_user.parquet", "topk.parquet"} and again.test_users == 50
    assert again.model_copy(update={"files": {}, "test_users": None}) == record
    (run,) = read_stores([tmp_path / "runs"]).runs
    pd.testing.assert_frame_equal(run.per_user().to_frame(), users.to_frame(), check_exact=True)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "topk.parquet"), topk)


def test_what_is_not_there_is_not_found(tmp_path, make_run):
    store = RunStore(tmp_path / "none")
    assert store.find("beauty", "HeLLM", "a1") is None and read_stores([tmp_path / "none"]).runs == []
    with pytest.raises(UserError, match=r"no run\.json.*run again"):
        store.read(tmp_path)


def test_means_that_contradict_the_users_are_refused(tmp_path, make_run):
    record, users = make_run(metrics={"test": {"train": {"recall@10": 0.9999}}})
    with pytest.raises(ValueError, match=r"test\.train\.recall@10 is 0\.9999"):
        RunStore(tmp_path).write(record, users)
    assert not list(tmp_path.rglob("*.json"))


def test_a_failure_while_writing_leaves_nothing(tmp_path, make_run):
    record, users = make_run()
    with pytest.raises(FileNotFoundError):
        RunStore(tmp_path).write(record, users, folder_files=[tmp_path / "absent.log"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert read_stores([tmp_path]).problems == []


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("HeLLM", "HeLLM"),
        ("ml-100k", "ml-100k"),
        ("my.module:Model", "my.module_Model"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..", "_"),
        (".hidden", "hidden"),
        ("a|b\n<c>", "a_b__c_"),
    ],
)
def test_names_stay_inside_the_store(tmp_path, make_run, name, safe):
    assert folder_name(name) == safe
    record, users = make_run(model=name, dataset=name)
    folder = RunStore(tmp_path).write(record, users)
    assert folder == tmp_path / safe / safe / record.key
    assert keys(tmp_path) == [record.key]


def broken(folder: Path, how: str) -> str:
    """Break a run folder; returns what the reader should say."""
    run, users = folder / "run.json", folder / "per_user.parquet"
    data = json.loads(run.read_text())
    match how:
        case "cut run.json":
            run.write_bytes(run.read_bytes()[:-40])
            return "cut short or no JSON"
        case "empty run.json":
            run.write_bytes(b"")
            return "cut short or no JSON"
        case "run.json of other bytes":
            run.write_bytes(b"\xff\xfe\x00")
            return "cut short or no JSON"
        case "run.json is a folder":
            run.unlink()
            run.mkdir()
            return "cut short or no JSON"
        case "no run.json":
            run.unlink()
            return "no run.json"
        case "a list":
            run.write_text("[1, 2]")
            return "is no mapping"
        case "edited number":
            data["metrics"]["test"]["train"]["recall@10"] = 0.99
        case "edited seed":
            data["seed"] = 7
        case "edited hash":
            data["files"]["per_user.parquet"] = "0" * 64
        case "no seal":
            del data["seal"]
        case "unknown field":
            data["colour"] = "red"
            run.write_text(json.dumps(data))
            return "no setting of run.json 'colour'"
        case "wrong type":
            data["metrics"]["test"]["train"]["recall@10"] = "high"
            run.write_text(json.dumps(data))
            return "valid number"
        case "newer schema":
            data["schema_version"] = 2
            run.write_text(json.dumps(data))
            return "schema_version 2; this version reads 1"
        case "deeply nested":
            run.write_text("[" * 100_000)
            return "cut short or no JSON"
        case "no per_user":
            users.unlink()
            return "no per_user.parquet"
        case "cut per_user":
            users.write_bytes(users.read_bytes()[:-5])
            return "per_user.parquet was changed or cut short"
        case "changed per_user":
            content = bytearray(users.read_bytes())
            content[len(content) // 2] ^= 1
            users.write_bytes(bytes(content))
            return "per_user.parquet was changed or cut short"
        case "moved":
            folder.rename(folder.with_name("0000"))
            return "the run inside is beauty/HeLLM/a1b2c3d4e5f60718"
        case "emptied":
            shutil.rmtree(folder)
            folder.mkdir()
            return "no run.json"
    run.write_text(json.dumps(data))
    return "changed by hand"


HOW = [
    "cut run.json",
    "empty run.json",
    "run.json of other bytes",
    "run.json is a folder",
    "no run.json",
    "a list",
    "edited number",
    "edited seed",
    "edited hash",
    "no seal",
    "unknown field",
    "wrong type",
    "newer schema",
    "deeply nested",
    "no per_user",
    "cut per_user",
    "changed per_user",
    "moved",
    "emptied",
]


@pytest.mark.parametrize("how", HOW)
def test_a_broken_folder_is_named_left_out_and_made_anew(tmp_path, make_run, how):
    store = RunStore(tmp_path)
    record, users = make_run()
    store.write(*make_run(key="5ound", draw=5))
    told = broken(store.write(record, users), how)
    found = read_stores([tmp_path])
    assert [run.record.key for run in found.runs] == ["5ound"]
    (problem,) = found.problems
    assert told in problem.why and problem.name.startswith("beauty/HeLLM/") and problem.folder.is_dir()
    assert store.find("beauty", "HeLLM", record.key) is None
    store.write(record, users)
    assert store.find("beauty", "HeLLM", record.key) is not None
    assert sorted(keys(tmp_path)) == ["5ound", record.key]


def test_files_that_were_not_copied_along_are_no_fault_but_changed_ones_are(tmp_path, make_run):
    record, users = make_run()
    folder = RunStore(tmp_path).write(record, users, pd.DataFrame({"user": [1]}))
    (folder / "topk.parquet").write_bytes(b"other")
    with pytest.raises(BrokenRunError, match=r"topk\.parquet was changed"):
        read_run(folder)
    (folder / "topk.parquet").unlink()
    assert read_run(folder).key == record.key


def test_other_folders_of_a_store_are_no_runs(tmp_path, make_run):
    store = RunStore(tmp_path)
    folder = store.write(*make_run())
    for other in (
        "artifacts/text/ab12",
        "work/beauty/HeLLM/a1",
        ".git/x/y",
        "beauty/HeLLM/.a1.tmp",
        "beauty/x",
    ):
        (tmp_path / other).mkdir(parents=True)
    (tmp_path / "beauty/HeLLM/notes.txt").write_text("mine")
    assert list(run_folders(tmp_path)) == [folder]
    assert read_stores([tmp_path]).problems == []


def test_a_finished_run_stays_unless_it_is_to_be_replaced(tmp_path, make_run, capsys):
    store = RunStore(tmp_path)
    first, users = make_run()
    other, others = make_run(draw=9)
    folder = store.write(first, users)
    store.write(other, others)
    assert read_run(folder).metrics == first.metrics
    assert "that one stays" in capsys.readouterr().err
    store.write(other, others, replace=True)
    assert read_run(folder).metrics == other.metrics
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_stores_merge_by_copying(tmp_path, make_run):
    a, b = RunStore(tmp_path / "a"), RunStore(tmp_path / "b")
    for key in ("k1", "k2", "k3"):
        a.write(*make_run(key=key))
    for key in ("k3", "k4"):
        b.write(*make_run(key=key))
    b.write(*make_run(key="k1", dataset="sports"))
    assert sorted(keys(a.root, b.root)) == ["k1", "k1", "k2", "k3", "k4"]
    shutil.copytree(a.root, b.root, dirs_exist_ok=True)
    merged = read_stores([b.root])
    assert [(r.record.dataset, r.record.key) for r in merged.runs] == [
        ("beauty", "k1"),
        ("beauty", "k2"),
        ("beauty", "k3"),
        ("beauty", "k4"),
        ("sports", "k1"),
    ]
    assert merged.problems == []


def test_one_run_in_two_stores_counts_once_and_the_last_root_is_named(tmp_path, make_run):
    folders = [RunStore(tmp_path / name).write(*make_run()) for name in ("runs", "committed")]
    found = read_stores([tmp_path / "runs", tmp_path / "committed", tmp_path / "runs/../runs"])
    assert [run.folder for run in found.runs] == [folders[1]] and found.problems == []


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_two_stores_that_tell_different_numbers_are_named(tmp_path, make_run, order):
    early = make_run(finished="2026-01-01T00:00:00+00:00")
    late = make_run(draw=3, finished="2026-02-01T00:00:00+00:00")
    RunStore(tmp_path / "a").write(*late)
    RunStore(tmp_path / "b").write(*early)
    found = read_stores([tmp_path / name for name in order])
    assert [run.record.metrics for run in found.runs] == [early[0].metrics]
    (problem,) = found.problems
    assert "different numbers" in problem.why and problem.folder.is_relative_to(tmp_path / "a")


def test_publishing_copies_what_may_be_committed(tmp_path, make_run):
    record, users = make_run()
    folder = RunStore(tmp_path / "runs").write(record, users, pd.DataFrame({"user": ["secret"]}))
    target = publish(folder, tmp_path / "reports/runs")
    assert target == tmp_path / "reports/runs/beauty/HeLLM" / record.key
    assert sorted(path.name for path in target.iterdir()) == ["per_user.parquet", "run.json"]
    assert read_run(target) == read_run(folder)
    assert publish(folder, tmp_path / "reports/runs") == target
    (target / "run.json").write_text("{")
    publish(folder, tmp_path / "reports/runs")
    assert read_run(target) == read_run(folder)


def test_publishing_again_takes_over_a_new_name_and_nothing_else(tmp_path, make_run):
    record, users = make_run()
    folder = RunStore(tmp_path / "runs").write(record, users.to_frame())
    target = publish(folder, tmp_path / "reports")
    was = read_run(target)
    rename_variant(folder, "tau=0.3")
    publish(folder, tmp_path / "reports")
    assert read_run(target) == was.model_copy(update={"variant": "tau=0.3"})


def test_publishing_again_adds_the_log_of_the_same_training(tmp_path, make_run):
    record, users = make_run()
    log = tmp_path / "epochs.csv"
    log.write_text("phase,epoch,loss,seconds,valid\ntrain,1,0.5,7.5,\n")
    folder = RunStore(tmp_path / "runs").write(record, users, folder_files=[log])
    target = publish(folder, tmp_path / "reports")
    assert (target / "epochs.csv").read_text() == log.read_text()
    (run,) = read_stores([tmp_path / "reports"]).runs
    assert run.seconds_per_epoch == 7.5 != record.cost.seconds_per_epoch
    (target / "epochs.csv").unlink()
    assert read_stores([tmp_path / "reports"]).runs[0].seconds_per_epoch == record.cost.seconds_per_epoch
    publish(folder, tmp_path / "reports")
    assert (target / "epochs.csv").read_text() == log.read_text()

    (target / "epochs.csv").unlink()
    shutil.rmtree(folder)
    log.write_text("another training\n")
    RunStore(tmp_path / "runs").write(record, users, folder_files=[log])
    publish(folder, tmp_path / "reports")
    assert not (target / "epochs.csv").exists() and read_run(target).key == record.key


def test_publishing_refuses_broken_and_large_runs(tmp_path, make_run):
    record, users = make_run()
    folder = RunStore(tmp_path / "runs").write(record, users)
    with (folder / "per_user.parquet").open("ab") as stream:
        stream.write(os.urandom(300_001))
    with pytest.raises(UserError, match="run it again"):
        publish(folder, tmp_path / "out")
    write_record(record, folder)
    with pytest.raises(UserError, match=r"at most 300,000 may be committed"):
        publish(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def write_many(root: Path, make_run, names: list[str], start) -> None:
    start.wait()
    for name in names:
        RunStore(root).write(*make_run(key=name, draw=int(name[1:])))


def test_eight_processes_lose_and_double_nothing(tmp_path, make_run):
    """Each writes twelve runs in an order of its own; six of them are everybody's."""
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(8)
    shared = [f"k{n}" for n in range(6)]
    jobs = []
    for worker in range(8):
        names = shared + [f"k{100 + worker * 10 + n}" for n in range(6)]
        random.Random(worker).shuffle(names)
        jobs.append(fork.Process(target=write_many, args=(tmp_path, make_run, names, start)))
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0] * 8
    found = read_stores([tmp_path])
    assert len(found.runs) == 6 + 48 and found.problems == []
    for run in found.runs:
        assert run.record.metrics["test"] == make_run(draw=int(run.record.key[1:]))[1].means()
    assert not [path for path in tmp_path.rglob(".*")]


def write_until_killed(root: Path, make_run) -> None:
    for number in range(100_000):
        RunStore(root).write(*make_run(key=f"k{number % 7}", draw=number % 7), replace=number % 2 == 0)


@pytest.mark.parametrize("wait", [0.15, 0.4])
def test_a_killed_process_leaves_only_whole_runs(tmp_path, make_run, wait):
    process = multiprocessing.get_context("fork").Process(
        target=write_until_killed, args=(tmp_path, make_run)
    )
    process.start()
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob("*/*/k*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(wait)
    os.kill(process.pid, signal.SIGKILL)
    process.join(20)
    found = read_stores([tmp_path])
    assert found.problems == [] and found.runs
    RunStore(tmp_path).write(*make_run(key="after"))
    assert "after" in keys(tmp_path)
