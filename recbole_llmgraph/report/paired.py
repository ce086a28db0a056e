"""Two models compared over the same users.

All tests are paired and two-sided, over users: they say whether other users of the same kind would
tell the same story, not whether another seed would.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from recbole_llmgraph.report.leaderboard import METRICS

#: Resamples of the bootstrap and of the permutation test; the smallest possible p is 1 in 10,000.
RESAMPLES = 9_999
#: Resamples of a ratio of means, enough for an interval.
RATIO_RESAMPLES = 1_999
#: Distinct differences up to which counts are drawn in place of users.
_FEW = 1_000
#: Largest number of values in memory at once while resampling.
_BUDGET = 4_000_000


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    metrics: Sequence[str] = METRICS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare two models metric by metric.

    Args:
        a, b: [users, metrics] values of the same users in the same order.
        metrics: columns to compare; those that either side lacks are left out.
        resamples: of the bootstrap and the permutation test.
        seed: of both.

    Returns:
        One row a metric: `metric, users, mean_a, mean_b, difference, low, high` (95 % percentile
        bootstrap), `p_permutation` (sign flips), `p_wilcoxon` (signed ranks, zeros dropped),
        `wins, ties, losses` of a, and `effect`: Cohen's d_z = mean / standard deviation of differences.

    Raises:
        ValueError: when the two have different numbers of users.
    """
    if len(a) != len(b):
        raise ValueError(f"paired comparison needs the same users: {len(a)} and {len(b)} rows")
    shared = [metric for metric in metrics if metric in a and metric in b]
    rows = []
    for metric in shared:
        left, right = a[metric].to_numpy(np.float64), b[metric].to_numpy(np.float64)
        told = {"metric": metric, "users": len(left), "mean_a": left.mean(), "mean_b": right.mean()}
        rows.append(told | differences(left - right, resamples, seed))
    return pd.DataFrame(rows)


def differences(difference: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, float]:
    """Mean difference with interval, tests, wins and effect size. `difference`: [users]."""
    deviation = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    low, high = bootstrap_interval(difference, resamples, seed)
    return {
        "difference": float(difference.mean()),
        "low": low,
        "high": high,
        "p_permutation": permutation_p(difference, resamples, seed),
        "p_wilcoxon": wilcoxon_p(difference),
        "wins": int((difference > 0).sum()),
        "ties": int((difference == 0).sum()),
        "losses": int((difference < 0).sum()),
        "effect": float(difference.mean()) / deviation if deviation else 0.0,
    }


def bootstrap_interval(difference: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean over resampled users.

    Ranks leave few distinct differences. Drawing how often each is met (a multinomial draw) is the same
    experiment as drawing users one by one, at a hundredth of the work.
    """
    from scipy import stats

    values, first, counts = np.unique(difference, return_index=True, return_counts=True)
    if len(values) < 2:
        value = float(values[0]) if len(values) else 0.0
        return value, value
    rng = np.random.default_rng(seed)
    if len(values) <= _FEW:
        n, order = len(difference), np.argsort(first)  # as met, so that a turned pair gives the mirror image
        drawn = stats.multinomial.rvs(n, counts[order] / n, size=resamples, random_state=rng)
        low, high = np.quantile(drawn @ values[order] / n, [0.025, 0.975])
        return float(low), float(high)
    found = stats.bootstrap(
        (difference,),
        np.mean,
        n_resamples=resamples,
        method="percentile",
        batch=_batch(len(difference)),
        rng=rng,
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def mean_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Student's t-interval of a mean over users: what the bootstrap of so many users comes to, at once."""
    from scipy import stats

    if len(np.unique(values)) < 2:
        value = float(values[0]) if len(values) else 0.0
        return value, value
    found = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    return float(found.low), float(found.high)


def gain_interval(
    a: np.ndarray, b: np.ndarray, resamples: int = RATIO_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of mean(a) / mean(b) − 1 over resampled users; NaN where b is 0."""
    from scipy import stats

    def gain(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(x.mean(axis=axis) / y.mean(axis=axis) - 1)

    if not b.any():
        return float("nan"), float("nan")
    found = stats.bootstrap(
        (a, b),
        gain,
        paired=True,
        n_resamples=resamples,
        method="percentile",
        batch=_batch(len(a)),
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def permutation_p(difference: np.ndarray, resamples: int, seed: int) -> float:
    """Two-sided p of the mean under random signs; all 2ⁿ sign patterns where these are fewer.

    Users without a difference add nothing to the sum under any sign, so they are left out: the
    distribution is the same, the work a tenth.
    """
    from scipy import stats

    moved = difference[difference != 0]
    if len(moved) < 2:
        return 1.0  # one user: both signs are as extreme
    found = stats.permutation_test(
        (moved,),
        np.sum,
        permutation_type="samples",
        n_resamples=resamples,
        batch=_batch(len(moved)),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def wilcoxon_p(difference: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, zeros dropped."""
    from scipy import stats

    return float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0


def holm(p: Sequence[float] | pd.Series) -> np.ndarray:
    """Holm's step-down adjustment of p-values, for all tests shown together."""
    from statsmodels.stats.multitest import multipletests

    values = np.asarray(p, dtype=np.float64)
    return np.asarray(multipletests(values, method="holm")[1]) if len(values) else values


def _batch(size: int) -> int:
    """Resamples held in memory at once."""
    return max(1, _BUDGET // max(1, size))
