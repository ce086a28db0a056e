"""Paired statistics against enumeration, textbook sums and each other."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.report.paired import (
    bootstrap_interval,
    compare,
    differences,
    holm,
    permutation_p,
    wilcoxon_p,
)


def every_sign(difference: np.ndarray) -> float:
    """Two-sided p by all 2ⁿ sign patterns: twice the smaller tail, at most 1."""
    sums = [float(np.dot(signs, difference)) for signs in itertools.product((-1, 1), repeat=len(difference))]
    observed = float(difference.sum())
    tol = 1e-9
    upper = np.mean([s >= observed - tol for s in sums])
    lower = np.mean([s <= observed + tol for s in sums])
    return min(1.0, 2 * min(upper, lower))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_permutation_equals_enumeration_and_zeros_change_nothing(values):
    difference = np.array(values, dtype=float)
    assert permutation_p(difference, 9_999, 0) == pytest.approx(every_sign(difference))
    padded = np.concatenate([difference, np.zeros(40)])
    assert permutation_p(padded, 9_999, 0) == pytest.approx(every_sign(difference))


def test_sampled_permutations_agree_with_the_normal_limit():
    from scipy import stats

    difference = np.random.default_rng(0).normal(0.1, 1.0, 400)
    z = difference.sum() / np.sqrt((difference**2).sum())
    assert permutation_p(difference, 9_999, 0) == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.01)


def test_wilcoxon_equals_the_sum_of_signed_ranks():
    from scipy import stats

    difference = np.array([0.0, 0.5, -0.1, 0.7, 1.2, -0.3, 0.9, 0.0, 1.5])
    moved = difference[difference != 0]
    ranks = stats.rankdata(np.abs(moved))
    observed = ranks[moved > 0].sum()
    sums = [ranks[np.array(signs)].sum() for signs in itertools.product((False, True), repeat=len(moved))]
    upper, lower = np.mean(np.array(sums) >= observed), np.mean(np.array(sums) <= observed)
    assert wilcoxon_p(moved) == pytest.approx(2 * min(upper, lower))
    assert wilcoxon_p(difference) == pytest.approx(wilcoxon_p(moved), abs=0.02)


def test_the_bootstrap_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.exponential(1.0, 120), 400, trial)
        covered += low <= 1.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


@pytest.mark.parametrize("kinds", [2, 5, 40])
def test_drawing_counts_is_drawing_users(kinds):
    from scipy import stats

    rng = np.random.default_rng(kinds)
    difference = rng.normal(size=kinds)[rng.integers(kinds, size=500)]
    users = stats.bootstrap((difference,), np.mean, n_resamples=9_999, method="percentile", rng=rng)
    low, high = bootstrap_interval(difference, 9_999, 1)
    near = 0.03 * (high - low)
    assert low == pytest.approx(users.confidence_interval.low, abs=near)
    assert high == pytest.approx(users.confidence_interval.high, abs=near)


def test_the_bootstrap_agrees_with_the_normal_limit():
    difference = np.random.default_rng(0).normal(0.05, 1.0, 2_000)
    half = 1.96 * difference.std() / np.sqrt(len(difference))
    low, high = bootstrap_interval(difference, 4_000, 0)
    assert low == pytest.approx(difference.mean() - half, abs=0.05 * half * 2)
    assert high == pytest.approx(difference.mean() + half, abs=0.05 * half * 2)


def test_equal_models_differ_in_nothing():
    found = differences(np.zeros(30))
    assert found == {
        "difference": 0.0,
        "low": 0.0,
        "high": 0.0,
        "p_permutation": 1.0,
        "p_wilcoxon": 1.0,
        "wins": 0,
        "ties": 30,
        "losses": 0,
        "effect": 0.0,
    }


def test_a_constant_difference_has_no_width():
    found = differences(np.full(12, 0.25))
    assert (found["low"], found["high"], found["effect"]) == (0.25, 0.25, 0.0)
    assert found["p_permutation"] == pytest.approx(2 / 2**12)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=2, max_size=30))
def test_turning_the_pair_around_mirrors_everything(values):
    difference = np.array(values)
    a, b = differences(difference, 99), differences(-difference, 99)
    assert a["difference"] == -b["difference"] and a["effect"] == pytest.approx(-b["effect"])
    assert (a["wins"], a["ties"], a["losses"]) == (b["losses"], b["ties"], b["wins"])
    assert a["p_wilcoxon"] == pytest.approx(b["p_wilcoxon"])
    assert (a["low"], a["high"]) == (pytest.approx(-b["high"]), pytest.approx(-b["low"]))
    assert a["wins"] + a["ties"] + a["losses"] == len(values)


def test_a_comparison_has_a_row_a_metric_that_both_have():
    a = pd.DataFrame(
        {"recall@10": [1.0, 0.0, 1.0, 1.0], "ndcg@10": [0.5, 0.0, 1.0, 0.2], "mrr@10": [1.0] * 4}
    )
    b = pd.DataFrame({"recall@10": [0.0, 0.0, 1.0, 1.0], "ndcg@10": [0.0, 0.0, 1.0, 0.4]})
    found = compare(a, b, resamples=99).set_index("metric")
    assert list(found.index) == ["recall@10", "ndcg@10"]
    assert found.loc["recall@10", ["mean_a", "mean_b", "difference"]].tolist() == [0.75, 0.5, 0.25]
    assert found.loc["ndcg@10", ["users", "wins", "ties", "losses"]].tolist() == [4, 1, 2, 1]
    difference = np.array([0.5, 0, 0, -0.2])
    assert found.loc["ndcg@10", "effect"] == pytest.approx(difference.mean() / difference.std(ddof=1))


def test_a_comparison_is_the_same_every_time():
    rng = np.random.default_rng(3)
    a, b = (pd.DataFrame({"ndcg@10": rng.random(60)}) for _ in range(2))
    pd.testing.assert_frame_equal(
        compare(a, b, resamples=200), compare(a, b, resamples=200), check_exact=True
    )


def test_other_users_are_refused():
    with pytest.raises(ValueError, match="same users: 2 and 3"):
        compare(pd.DataFrame({"ndcg@10": [1.0, 0.0]}), pd.DataFrame({"ndcg@10": [1.0, 0.0, 0.0]}))


@settings(deadline=None, max_examples=12)  # statsmodels collects garbage in every call
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_steps_down(values):
    expected = dict.fromkeys(range(len(values)), 0.0)
    running = 0.0
    for step, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        running = max(running, min(1.0, (len(values) - step) * values[place]))
        expected[place] = running
    assert holm(values).tolist() == pytest.approx(list(expected.values()))
