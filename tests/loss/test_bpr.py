"""Pairwise loss and penalty against their formulas."""

import math

import pytest
import torch

from recbole_llmgraph.loss.bpr import bpr, dual_bpr_negative, dual_bpr_positive, l2_penalty


def test_equals_the_formula():
    positive, negative = [0.3, -2.0, 5.0], [0.1, 1.0, 5.0]
    expected = sum(-math.log(1 / (1 + math.exp(n - p))) for p, n in zip(positive, negative, strict=True)) / 3
    assert float(bpr(torch.tensor(positive), torch.tensor(negative))) == pytest.approx(expected, rel=1e-6)


def test_finite_for_any_score_with_the_gradient_of_a_sigmoid():
    positive = torch.tensor([-1e4, 1e4, 0.0], requires_grad=True)
    loss = bpr(positive, torch.zeros(3))
    assert float(loss) == pytest.approx((1e4 + 0 + math.log(2)) / 3, rel=1e-6)
    loss.backward()
    torch.testing.assert_close(positive.grad, torch.tensor([-1.0, 0.0, -0.5]) / 3)


def test_several_negatives_broadcast():
    positive, negatives = torch.randn(4, 1), torch.randn(4, 6)
    mean = torch.stack([bpr(positive[:, 0], negatives[:, j]) for j in range(6)]).mean()
    torch.testing.assert_close(bpr(positive, negatives), mean)


def test_penalty_is_half_the_mean_of_squared_norms():
    u, p, n = torch.randn(3, 5, 4).unbind(0)
    expected = sum(float(x) ** 2 for v in (u, p, n) for row in v for x in row) / 2 / 5
    assert float(l2_penalty(u, p, n)) == pytest.approx(expected, rel=1e-5)


def test_dual_bpr_is_the_papers_two_cases_summed_in_a_loop() -> None:
    torch.manual_seed(1)
    own, negative = torch.randn(6), torch.randn(6, 4)

    def log_sigma(x: float) -> float:
        return -math.log1p(math.exp(-x))

    liked = -sum(log_sigma(float(own[r] - negative[r, j])) for r in range(6) for j in range(4))
    disliked = -sum(log_sigma(float(negative[r, j] - 1.7 * own[r])) for r in range(6) for j in range(4))
    assert float(dual_bpr_positive(own, negative)) == pytest.approx(liked, rel=1e-6)
    assert float(dual_bpr_negative(own, negative, 1.7)) == pytest.approx(disliked, rel=1e-6)


def test_dual_bpr_of_no_rows_is_zero() -> None:
    nothing = torch.zeros(0), torch.zeros(0, 4)
    assert float(dual_bpr_positive(*nothing)) == float(dual_bpr_negative(*nothing, 2.0)) == 0.0
