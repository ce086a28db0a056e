"""Jobs on Ray Tune: retried when a process or a node is lost, stopped when a scheduler says so.

A job is a picklable object `work(config, report) -> outcome`. What it leaves lies in the store, so
starting it again goes on from its last checkpoint and never counts twice.
"""

import os
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from ray import tune

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import PLAIN_EVERY, say
from recbole_llmgraph.suite.ray_pool import OWN_VARIABLES, Pool

#: Times that a job is started again after its process or its node was lost, and the seconds before each:
#: for a while a cluster still sends jobs to a node that is gone.
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
#: Plain results of a job's validation, or its last words: `valid`, the score so far; `told`, for a line.
Result = dict[str, Any]


class Work(Protocol):
    """What jobs do; picklable."""

    def __call__(self, config: dict[str, Any], report: Callable[[Result], None]) -> Result:
        """Do one job, reporting on the way."""

    def label(self, config: dict[str, Any]) -> str:
        """What to call it on the terminal."""


@dataclass(frozen=True)
class Surroundings:
    """What a worker must share with the command that sent it: folder, import path, variables, threads."""

    threads: int
    folder: str = field(default_factory=os.getcwd)
    variables: dict[str, str] = field(
        default_factory=lambda: {k: v for k, v in os.environ.items() if k.startswith(OWN_VARIABLES)}
    )

    def enter(self) -> None:
        """Make this process alike."""
        os.environ.update(self.variables)
        torch.set_num_threads(self.threads)
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        if "" not in sys.path:  # a user's own model class lies where the command was typed
            sys.path.append("")


def trainable(config: dict[str, Any], work: Work, around: Surroundings) -> None:
    """A job as Ray calls it: its mistakes are results, so that only lost processes are tried again."""
    around.enter()
    try:
        outcome = work(config, tune.report)
    except UserError as error:
        outcome = {"mistake": str(error)}
    except Exception:
        outcome = {"fault": traceback.format_exc()}
    tune.report({"valid": 0.0, **outcome, "ended": True})  # a searcher wants a number, also of a failure


class Telling(tune.Callback):
    """Lines about jobs that ended, were lost, or go on."""

    def __init__(self, total: int, label: Callable[[dict[str, Any]], str]) -> None:
        """Args: how many jobs there are, and what to call one by its config."""
        self.total, self.label = total, label
        self.done, self.last = 0, time.monotonic()
        self.latest: dict[str, str] = {}
        self.losses: Counter[str] = Counter()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Result, **info: Any
    ) -> None:
        """A validation, or the end."""
        self.latest[trial.trial_id] = f"{self.label(trial.config)} {result.get('told', '')}".strip()
        if time.monotonic() - self.last > PLAIN_EVERY:
            self.last = time.monotonic()
            running = [self.latest[t.trial_id] for t in trials if _going(t) and t.trial_id in self.latest]
            say(f"{self.done} of {self.total} done; " + "; ".join(running))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A job ended, or was stopped."""
        self.done += 1
        result = trial.last_result or {}
        stopped = "" if result.get("ended") else ", stopped"
        told = self.latest.pop(trial.trial_id, self.label(trial.config))
        say(f"[{self.done}/{self.total}] {told}{stopped}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Lost, and Ray gave up on it: now and then it does so for a node that went in the wrong moment."""
        say(f"{self.label(trial.config)}: lost; it is tried again when the others have ended")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Lost with its process or node."""
        say(f"{self.label(trial.config)}: its process or node was lost; it starts again from its checkpoint")
        losses = self.losses[trial.trial_id]
        self.losses[trial.trial_id] += 1
        time.sleep(PAUSES[min(losses, len(PAUSES) - 1)])


def _going(trial: Any) -> bool:
    return str(trial.status) == "RUNNING"


def run_jobs(
    pool: Pool,
    work: Work,
    space: Mapping[str, Any],
    *,
    total: int,
    scratch: Path,
    minutes: float | None = None,
    **search: Any,
) -> list[Result]:
    """Run jobs on an open pool until all have ended, or the time is over.

    Args:
        pool: what each job gets.
        work: what a job does.
        space: Ray Tune's parameter space of `config`.
        total: jobs that this makes.
        scratch: folder, seen by every node, for Ray's own notes; emptied first and removed after.
        minutes: stop what still runs after so long.
        search: more of Ray Tune's `TuneConfig`: scheduler, searcher, number of samples.

    Returns:
        The last result of every job; `lost` where its process or node was, once too often.

    Raises:
        UserError: a job's first mistake; RuntimeError: our first fault, with its traceback.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    job = tune.with_parameters(trainable, work=work, around=Surroundings(pool.cpus))
    config = tune.TuneConfig(
        max_concurrent_trials=pool.parallel or None,
        time_budget_s=minutes * 60 if minutes else None,
        reuse_actors=True,
        trial_dirname_creator=lambda trial: str(trial.trial_id),
        **search,
    )
    tuner = tune.Tuner(
        tune.with_resources(job, pool.resources),
        param_space=dict(space),
        tune_config=config,
        run_config=_run_config(scratch, Telling(total, work.label)),
    )
    try:
        found = tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    ended = [found[place] for place in range(len(found))]
    return _checked([{**(result.metrics or {}), "lost": result.error is not None} for result in ended])


def until_ended(once: Callable[[float | None], Sequence[Result]], minutes: float | None) -> None:
    """Run jobs, and those that were lost again, which go on from their checkpoints.

    Args:
        once: runs all that is missing within so many minutes; returns its results.
        minutes: for all rounds together.
    """
    started = time.monotonic()
    for pause in (*PAUSES[3:], 0.0):
        left = minutes - (time.monotonic() - started) / 60 if minutes else None
        if left is not None and left <= 0:
            return
        lost = sum(bool(result.get("lost")) for result in once(left))
        if not lost:
            return
        say(f"{lost} jobs were lost with their process or node")
        time.sleep(pause)


def _run_config(scratch: Path, telling: Telling) -> tune.RunConfig:
    return tune.RunConfig(
        name=scratch.name,
        storage_path=str(scratch.parent.resolve()),
        failure_config=tune.FailureConfig(max_failures=len(PAUSES)),
        callbacks=[telling],
        verbose=0,
    )


def _checked(results: Sequence[Result]) -> list[Result]:
    for result in results:
        if "mistake" in result:
            raise UserError(result["mistake"])
    for result in results:
        if "fault" in result:
            raise RuntimeError(f"a job failed:\n{result['fault']}")
    return list(results)
