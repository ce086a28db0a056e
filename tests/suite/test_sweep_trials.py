"""A trial sees the validation part only, is counted once, and goes on where it was stopped."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.evaluation import Judge
from recbole_llmgraph.model.catalogue import model_card
from recbole_llmgraph.store.sweeps import Halving
from recbole_llmgraph.store.trials import Epoch, Journal, Trial, TrialStore
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.run import Runner
from recbole_llmgraph.suite.sweep.axes import read_panels
from recbole_llmgraph.suite.sweep.figure import run_figure, ticks
from recbole_llmgraph.suite.sweep.importance import importance
from recbole_llmgraph.suite.sweep.plan import Place
from recbole_llmgraph.suite.sweep.trial import Attempt, find_trial
from recbole_llmgraph.suite.sweep.tune import Halver, Search, choose


def attempt(house: House, cell: Any, **more: Any) -> Attempt:
    return Attempt(house, cell, Runner(house).key(cell), {"seed": 1}, **more)


def nothing(trial: Trial) -> None:
    """A figure listens to nobody."""


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Parts of the data that anybody judges a model on."""
    seen: list[str] = []
    judge = Judge.__call__

    def noting(self: Judge, model: Any, part: Any, what: str = "") -> Any:
        seen.append(part)
        return judge(self, model, part, what)

    monkeypatch.setattr(Judge, "__call__", noting)
    return seen


def test_a_trial_never_opens_the_test_part(house: House, workshop: Any, looks: list[str]) -> None:
    trial = attempt(house, workshop.cell("LightGCN")).run(nothing)
    assert set(looks) == {"valid"} and trial.status == "finished"
    assert not list(house.store.glob("mini/*/*"))  # no run: leaderboards know nothing of it
    assert "test" not in trial.model_dump_json()


def test_a_trial_tells_what_a_run_of_its_cell_tells_of_validation(house: House, workshop: Any) -> None:
    cell = workshop.cell("LightGCN")
    trial = attempt(house, cell).run(nothing)
    run = Runner(house).run(cell)
    assert trial.key == run.key and trial.valid == run.metrics["valid"]
    assert (trial.best_epoch, trial.epochs_run) == (run.best_epoch, run.epochs_run)
    assert trial.split_fingerprint == run.split_fingerprint and trial.settings == run.settings
    assert trial.score == max(entry.valid for entry in trial.history)
    assert [entry.epoch for entry in trial.history] == [1, 2, 3, 4]
    assert trial.seconds == pytest.approx(sum(entry.seconds for entry in trial.history), abs=0.01)


def test_a_finished_run_is_a_finished_trial(house: House, workshop: Any, looks: list[str]) -> None:
    cell = workshop.cell("BPR")
    run = Runner(house).run(cell)
    looks.clear()
    trial = attempt(house, cell).run(nothing)
    assert looks == [] and trial.valid == run.metrics["valid"]
    assert [entry.epoch for entry in trial.history] == [1, 2, 3, 4]  # from the run's own log


def test_a_finished_trial_is_not_trained_again(house: House, workshop: Any, looks: list[str]) -> None:
    cell = workshop.cell("BPR")
    first = attempt(house, cell).run(nothing)
    looks.clear()
    again = Attempt(house, cell, first.key, {"learning_rate": 0.05}).run(nothing)
    assert looks == [] and again == first.model_copy(update={"point": {"learning_rate": 0.05}})
    assert not (house.store / "work" / "mini" / "BPR" / first.key).exists()


def test_a_kept_checkpoint_spares_the_run_its_training(
    house: House, workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = workshop.cell("BPR")
    trial = attempt(house, cell, keep=True).run(nothing)
    epochs: list[Any] = []
    run = Runner(house, on_epoch=epochs.append).run(cell)
    assert not epochs and run.metrics["valid"] == trial.valid
    fresh = Runner(House(house.store / "fresh", house.data, house.source)).run(cell)
    assert fresh.metrics == run.metrics


def test_a_diverged_trial_is_told_and_kept(house: House, workshop: Any) -> None:
    cell = workshop.cell("BPR", learning_rate=1e30)
    trial = attempt(house, cell).run(nothing)
    assert trial.status == "diverged" and "learning_rate" in trial.why and trial.score is None
    assert find_trial(house, cell, trial.key, {}) is not None
    with pytest.raises(UserError, match="no trial has finished"):
        choose([trial])


def test_a_killed_trial_goes_on_and_ends_alike(
    house: House, workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECBOLE_LLMGRAPH_CHECKPOINT_SECONDS", "0")
    cell = workshop.cell("LightGCN")
    peaceful = attempt(House(house.store / "peace", house.data, house.source), cell).run(nothing)
    journal = Journal(house.store, "search")

    def kill(trial: Trial) -> None:
        if trial.epochs_run == 2:
            raise Killed

    with pytest.raises(Killed):
        attempt(house, cell, journal=journal).run(kill)
    (left,) = journal
    assert left.status == "started" and left.epochs_run == 2
    heard: list[int] = []
    ended = attempt(house, cell, journal=journal).run(lambda trial: heard.append(trial.epochs_run))
    assert heard == [1, 2, 3, 4]  # the search hears of the first two again
    assert [(e.epoch, e.valid) for e in ended.history] == [(e.epoch, e.valid) for e in peaceful.history]
    assert ended.valid == peaceful.valid and journal.find(ended.key) == ended


def test_a_killed_tick_of_a_figure_still_knows_all_of_its_epochs(
    house: House, workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps no journal; the checkpoint remembers."""
    monkeypatch.setenv("RECBOLE_LLMGRAPH_CHECKPOINT_SECONDS", "0")
    cell = workshop.cell("LightGCN")

    def kill(trial: Trial) -> None:
        if trial.epochs_run == 3:
            raise Killed

    with pytest.raises(Killed):
        attempt(house, cell).run(kill)
    ended = attempt(house, cell).run(nothing)
    peaceful = attempt(House(house.store / "peace", house.data, house.source), cell).run(nothing)
    assert [(e.epoch, e.valid) for e in ended.history] == [(e.epoch, e.valid) for e in peaceful.history]
    assert all(entry.seconds > 0 for entry in ended.history)


def test_what_a_search_has_pruned_it_does_not_train_again(
    house: House, workshop: Any, looks: list[str]
) -> None:
    cell = workshop.cell("BPR")
    done = attempt(house, cell).run(nothing)
    TrialStore(house.store).forget("mini", "BPR", done.key)
    journal = Journal(house.store, "search")
    journal.write(done.model_copy(update={"status": "pruned", "valid": {}}))
    looks.clear()
    assert attempt(house, cell, journal=journal).run(nothing).status == "pruned"
    assert not looks
    assert attempt(house, cell).run(nothing).status == "finished"  # but a figure does
    assert looks


# -- figures -------------------------------------------------------------------------------


def placed(workshop: Any, *texts: str, model: str = "LightGCN", **changes: Any) -> Place:
    cell = workshop.cell(model, **changes)
    panels = tuple(read_panels(texts, model_card(model)))
    return Place(model_card(model), workshop.miniature.card, "seq", "quick", cell.overrides, panels)


def test_a_figure_asks_for_every_tick_and_seed_and_shares_equal_cells(house: House, workshop: Any) -> None:
    place = placed(workshop, "n_layers=1,2", "learning_rate=0.01,0.05")
    found = ticks(house, {"mini": place}, [1, 2])
    assert len(found) == 8
    # n_layers=2 and learning_rate=0.05 are the workshop's own values: one cell in two panels
    assert len({tick.key for tick in found}) == 6
    assert not list(house.store.glob("trials/*/*/*"))


def test_a_finished_figure_starts_no_ray(house: House, workshop: Any) -> None:
    place = placed(workshop, "n_layers=1,2", epochs=1)
    for tick in ticks(house, {"mini": place}, [1]):
        Attempt(house, tick.cell, tick.key, tick.point).run(nothing)
    import ray

    found = run_figure(house, None, {"mini": place}, [1])  # type: ignore[arg-type]  # no pool is asked
    assert [trial.point for trial in found] == [{"n_layers": 1}, {"n_layers": 2}]
    assert not ray.is_initialized()


def test_never_draws_what_is_there_and_says_what_is_not(
    house: House, workshop: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    place = placed(workshop, "n_layers=1,2", epochs=1)
    with pytest.raises(UserError, match="2 of 2 trials did not finish"):
        run_figure(house, None, {"mini": place}, [1], rerun="never")  # type: ignore[arg-type]
    tick = ticks(house, {"mini": place}, [1])[0]
    Attempt(house, tick.cell, tick.key, tick.point).run(nothing)
    found = run_figure(house, None, {"mini": place}, [1], rerun="never")  # type: ignore[arg-type]
    assert len(found) == 1 and "not run: mini n_layers=2 seed 1" in capsys.readouterr().err


# -- searches ------------------------------------------------------------------------------


def search(house: House, workshop: Any, *texts: str, how: Any = "random", draws: int = 5) -> Search:
    place = placed(workshop, *texts)
    return Search(house.absolute(), place, how, draws, 1, Halving(grace=1, factor=3))


def test_random_points_follow_from_the_seed_and_differ(house: House, workshop: Any) -> None:
    texts = ("learning_rate=1e-3..1e-1", "n_layers=1..4", "reg_weight")
    drawn = search(house, workshop, *texts, draws=12).points()
    assert drawn == search(house, workshop, *texts, draws=12).points()
    assert len({tuple(sorted(point.items())) for point in drawn}) == 12
    rates = np.log10([float(point["learning_rate"]) for point in drawn])  # type: ignore[arg-type]
    assert rates.min() < -2 < rates.max() and rates.min() >= -3 and rates.max() <= -1  # on a log scale
    assert {point["n_layers"] for point in drawn} <= {1, 2, 3, 4}
    few = search(house, workshop, "n_layers=1,2", draws=12).points()
    assert sorted(point["n_layers"] for point in few) == [1, 2]  # type: ignore[type-var]


def test_a_search_is_known_by_all_that_decides_its_trials(house: House, workshop: Any) -> None:
    names = {
        search(house, workshop, "n_layers=1,2").name,
        search(house, workshop, "n_layers=1,3").name,
        search(house, workshop, "n_layers=1,2", draws=6).name,
        search(house, workshop, "n_layers=1,2", how="grid").name,
    }
    assert len(names) == 4 and search(house, workshop, "n_layers=1,2").name in names


def run_of(key: str, scores: list[float], status: Any = "finished", **point: Any) -> Trial:
    history = [Epoch(epoch=e, valid=s, seconds=1.0) for e, s in enumerate(scores, start=1)]
    valid = {"train": {"ndcg@10": max(scores)}} if status == "finished" else {}
    return Trial(
        key=key, point=point, model="Made", dataset="mini", protocol="seq", preset="quick", seed=1,
        mask="train", metric="ndcg@10", status=status, history=history, valid=valid,
        epochs_planned=9, epochs_run=len(scores),
    )  # fmt: skip


def test_the_choice_is_the_best_finished_trial_on_validation() -> None:
    trials = [run_of("a", [0.1, 0.3]), run_of("b", [0.5], "pruned"), run_of("c", [0.4, 0.2])]
    assert choose(trials).key == "c"


def halved(curves: dict[str, list[float]], grace: int, factor: int, last: int) -> dict[str, int]:
    """Asynchronous successive halving in plain loops: epoch at which each trial stops, trials in turns.

    Rungs lie at grace x factor^k. A trial that reaches a rung (only the highest it has not passed counts)
    goes on when its score is at least the (1 - 1/factor) quantile of those that came before it.
    """
    rungs: dict[int, list[float]] = {}
    rung = grace
    while rung <= last:
        rungs[rung] = []
        rung *= factor
    stopped: dict[str, int] = {}
    for epoch in range(1, max(map(len, curves.values())) + 1):
        for name, curve in curves.items():
            if name in stopped or epoch not in rungs:
                continue
            score, before = curve[epoch - 1], rungs[epoch]
            if before and score < np.percentile(before, (1 - 1 / factor) * 100):
                stopped[name] = epoch
            rungs[epoch].append(score)
    return stopped


@pytest.mark.parametrize("draw", range(8))
def test_asha_prunes_as_plain_loops_do(tmp_path: Path, draw: int) -> None:
    dice = np.random.default_rng(draw)
    curves = {f"t{n}": list(np.maximum.accumulate(dice.random(9))) for n in range(12)}
    journal = Journal(tmp_path, "search")
    halver = Halver(journal, Halving(grace=1, factor=3), last=8)
    stopped: dict[str, int] = {}
    for name in curves:
        halver.on_trial_add(None, SimpleNamespace(trial_id=name))
    for epoch in range(1, 10):
        for name, curve in curves.items():
            if name not in stopped:
                journal.write(run_of(name, curve[:epoch], "started"))
                result = {"key": name, "epoch": epoch, "valid": curve[epoch - 1]}
                if halver.on_trial_result(None, SimpleNamespace(trial_id=name), result) == "STOP":
                    stopped[name] = epoch
    assert stopped == halved(curves, 1, 3, 8) and stopped
    assert {trial.key for trial in journal if trial.status == "pruned"} == set(stopped)
    assert max(stopped.values()) < 9  # never at the last epoch


def test_a_resumed_search_remembers_its_rungs(tmp_path: Path) -> None:
    """Trials of an earlier sitting fill the rungs as if they had run in this one."""
    dice = np.random.default_rng(5)
    curves = {f"t{n}": [float(s) for s in np.maximum.accumulate(dice.random(9))] for n in range(9)}
    first, second = list(curves)[:5], list(curves)[5:]
    outcomes = []
    for sittings in (1, 2):
        halver = Halver(Journal(tmp_path, "search"), Halving(grace=1, factor=3), last=8)
        for name in first:
            if sittings == 2:
                halver.remember(run_of(name, curves[name]))
                continue
            halver.on_trial_add(None, SimpleNamespace(trial_id=name))
            for epoch in range(1, 10):  # none of the first is stopped, whatever the scheduler says
                halver.on_trial_result(
                    None, SimpleNamespace(trial_id=name),
                    {"key": name, "epoch": epoch, "valid": curves[name][epoch - 1]},
                )  # fmt: skip
        found = []
        for name in second:
            halver.on_trial_add(None, SimpleNamespace(trial_id=name))
            for epoch in range(1, 10):
                result = {"key": name, "epoch": epoch, "valid": curves[name][epoch - 1]}
                found.append(halver.on_trial_result(None, SimpleNamespace(trial_id=name), result))
        outcomes.append(found)
    assert outcomes[0] == outcomes[1] and "STOP" in outcomes[0]


def test_a_late_word_of_an_ended_trial_stops_nothing(tmp_path: Path) -> None:
    halver = Halver(Journal(tmp_path, "search"), Halving(grace=1, factor=3), last=8)
    for name, score in (("a", 0.9), ("b", 0.1)):
        halver.on_trial_add(None, SimpleNamespace(trial_id=name))
        result = {"key": name, "epoch": 9, "valid": score, "ended": True}
        assert halver.on_trial_result(None, SimpleNamespace(trial_id=name), result) == "CONTINUE"


def test_importance_finds_the_axis_that_moves_the_score(house: House, workshop: Any) -> None:
    axes = search(house, workshop, "learning_rate=1e-3..1e-1", "n_layers=1,2,3").axes
    dice = np.random.default_rng(1)
    trials = []
    for n in range(20):
        rate, layers = float(10 ** dice.uniform(-3, -1)), int(dice.integers(1, 4))
        score = 0.5 + 0.2 * math.log10(rate) / 3 + 0.001 * layers
        trials.append(run_of(f"t{n}", [score], learning_rate=rate, n_layers=layers))
    shares = importance(trials, axes)
    assert list(shares) == ["learning_rate", "n_layers"] and shares["learning_rate"] > 0.9
    assert shares == importance(list(reversed(trials)), axes)
    assert importance(trials[:5], axes) == {} and importance(trials, axes[:1]) == {}
