"""How much of a search's score each axis explains: fANOVA, by Optuna."""

import importlib.util
from collections.abc import Sequence
from typing import Any

from recbole_llmgraph.store.trials import Trial
from recbole_llmgraph.suite.sweep.axes import Axis
from recbole_llmgraph.suite.sweep.tune import best_so_far

#: Fewest finished trials from which a share is told.
ENOUGH = 6


def importance(trials: Sequence[Trial], axes: Sequence[Axis]) -> dict[str, float]:
    """Share of the variance of the score by axis, largest first; empty where trials are too few to say.

    Only finished trials count: a pruned one's score is of fewer epochs.
    """
    finished = [trial for trial in trials if trial.status == "finished"]
    moved = len({best_so_far(trial) for trial in finished}) > 1
    if len(axes) < 2 or len(finished) < ENOUGH or not moved or not importlib.util.find_spec("optuna"):
        return {}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    spaces = {axis.label: _distribution(axis, finished, optuna.distributions) for axis in axes}
    for trial in sorted(finished, key=lambda trial: trial.key):
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(trial.point), distributions=spaces, value=best_so_far(trial)
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: round(float(share), 6) for name, share in found.items()}


def _distribution(axis: Axis, trials: Sequence[Trial], kinds: Any) -> Any:
    """Where an axis's values come from: an interval of numbers, or a list."""
    values = [trial.point[axis.label] for trial in trials]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values):
        return kinds.CategoricalDistribution(sorted({*values, *axis.ticks}, key=str))
    low, high = min(numbers), max(numbers)
    if all(isinstance(value, int) for value in numbers):
        return kinds.IntDistribution(low, high)
    return kinds.FloatDistribution(low, high, log=axis.log)
