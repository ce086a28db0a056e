"""The streamed contrastive loss against its formula, differences and the whole that its batches estimate."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.loss import infonce as module
from recbole_llmgraph.loss.infonce import cross_view_infonce, infonce, unit


def cosine(a, b):
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 0.0


def by_loops(anchors, z, h, tau):
    """CL(z, h) as SPEC 3.1 writes it, in Python floats."""
    z, h = z.tolist(), h.tolist()
    total = 0.0
    for x in anchors.tolist():
        exponents = [cosine(z[x], other) / tau for other in h]
        exponents += [cosine(z[x], other) / tau for y, other in enumerate(z) if y != x]
        top = max(exponents)
        total += top + math.log(sum(math.exp(e - top) for e in exponents)) - cosine(z[x], h[x]) / tau
    return total / len(anchors)


@pytest.fixture
def views():
    torch.manual_seed(0)
    return torch.randn(2, 12, 4, dtype=torch.double).unbind(0)


@pytest.fixture(params=[(1024, 1 << 20), (3, 12), (5, 1)], ids=["whole", "blocks and tiles", "a key a tile"])
def streamed(request, monkeypatch):
    """Sizes of blocks and tiles: one of each, several, and as many as can be."""
    monkeypatch.setattr(module, "BLOCK", request.param[0])
    monkeypatch.setitem(module.TILE, "cpu", request.param[1])


ANCHORS = [torch.arange(12), torch.tensor([7]), torch.tensor([11, 0, 5, 5, 3, 0, 0])]
#: 0.019 and 0.002 take the road for small temperatures.
TAUS = [0.002, 0.019, 0.021, 0.05, 0.5, 1.0, 30.0]


@pytest.mark.parametrize("anchors", ANCHORS, ids=["full", "one", "repeats"])
@pytest.mark.parametrize("tau", TAUS)
def test_equals_the_formula(streamed, views, anchors, tau):
    found = cross_view_infonce(anchors, *views, tau)
    assert float(found) == pytest.approx(by_loops(anchors, *views, tau), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("anchors", [torch.arange(5), torch.tensor([4, 0, 0, 2])], ids=["full", "repeats"])
@pytest.mark.parametrize("tau", [0.015, 0.05, 0.5, 1.0])
def test_gradient_equals_differences(streamed, anchors, tau):
    torch.manual_seed(3)
    z, h = (torch.randn(5, 3, dtype=torch.double, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda z, h: cross_view_infonce(anchors, z, h, tau), (z, h))


@pytest.mark.parametrize("tau", [0.015, 0.05, 0.5, 1.0])
def test_single_precision_stays_near_double(tau):
    torch.manual_seed(1)
    z, h = torch.randn(2, 3000, 32).unbind(0)
    h = h + z  # views that agree, as training makes them
    anchors = torch.randperm(3000)[:1100]
    results = []
    for dtype in (torch.float32, torch.float64):
        a, b = (view.to(dtype).requires_grad_() for view in (z, h))
        loss = cross_view_infonce(anchors, a, b, tau)
        results.append((loss, *torch.autograd.grad(loss, (a, b))))
    single, double = results
    assert float(single[0]) == pytest.approx(float(double[0]), rel=2e-6)
    for ours, exact in zip(single[1:], double[1:], strict=True):
        assert float((ours - exact).norm() / exact.norm()) < 2e-5


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 30), st.integers(0, 10**6), st.floats(0.03, 2))
def test_any_size_equals_the_formula(n, d, size, seed, tau):
    torch.manual_seed(seed)
    z, h = torch.randn(2, n, d, dtype=torch.double).unbind(0)
    anchors = torch.randint(n, (size,))
    found = float(cross_view_infonce(anchors, z, h, tau))
    assert found == pytest.approx(by_loops(anchors, z, h, tau), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("tau", [0.01, 0.05, 1.0])
def test_zero_rows_count_as_cosine_zero_and_give_no_nan(views, tau):
    z, h = (view.clone() for view in views)
    z[[0, 4]], h[[0, 7]] = 0, 0
    z, h = z.requires_grad_(), h.requires_grad_()
    anchors = torch.arange(12)
    loss = cross_view_infonce(anchors, z, h, tau)
    assert float(loss) == pytest.approx(by_loops(anchors, z.detach(), h.detach(), tau), rel=1e-12)
    dz, dh = torch.autograd.grad(loss, (z, h))
    assert torch.isfinite(dz).all() and torch.isfinite(dh).all()
    assert not dz[[0, 4]].any() and not dh[[0, 7]].any()


def test_all_rows_alike():
    """2N - 1 equal exponents: log(2N - 1), whatever the temperature, with no gradient."""
    z = torch.ones(50, 8, requires_grad=True)
    for tau in (0.001, 0.05, 1.0):
        loss = cross_view_infonce(torch.arange(50), z, z * 3, tau)
        assert float(loss) == pytest.approx(math.log(99), rel=1e-5)
        assert torch.autograd.grad(loss, z)[0].abs().max() < 1e-3


def test_one_node_has_nothing_to_tell_it_from():
    found = float(cross_view_infonce(torch.tensor([0]), torch.ones(1, 3), -torch.ones(1, 3), 0.1))
    assert found == pytest.approx(0, abs=1e-5)


def test_scale_of_the_rows_does_not_matter_and_gradients_are_across(views):
    z, h = (view.clone().requires_grad_() for view in views)
    anchors = torch.arange(12)
    loss = cross_view_infonce(anchors, z, h, 0.2)
    torch.testing.assert_close(cross_view_infonce(anchors, 5 * z, h / 7, 0.2), loss)
    for gradient, view in zip(torch.autograd.grad(loss, (z, h)), (z, h), strict=True):
        torch.testing.assert_close((gradient * view).sum(1), torch.zeros(12, dtype=torch.double))


def test_order_of_anchors_does_not_matter(views):
    anchors = torch.tensor([4, 1, 9, 1, 0])
    once = cross_view_infonce(anchors, *views, 0.3)
    assert torch.equal(once, cross_view_infonce(anchors.flip(0), *views, 0.3))


def test_mean_over_all_batches_is_the_full_loss_and_gradient():
    """`cl_scope: batch` is unbiased: all sets of 3 of 7 anchors are equally likely; their mean is exact."""
    torch.manual_seed(2)
    z, h = (torch.randn(7, 3, dtype=torch.double, requires_grad=True) for _ in range(2))
    batches = [torch.tensor(chosen) for chosen in itertools.combinations(range(7), 3)]
    mean = sum(cross_view_infonce(batch, z, h, 0.2) for batch in batches) / len(batches)
    full = cross_view_infonce(torch.arange(7), z, h, 0.2)
    torch.testing.assert_close(mean, full)
    for ours, whole in zip(torch.autograd.grad(mean, (z, h)), torch.autograd.grad(full, (z, h)), strict=True):
        torch.testing.assert_close(ours, whole)


@pytest.mark.parametrize("size", [8, 64])
def test_drawn_batches_agree_with_the_full_loss_within_their_error(size):
    torch.manual_seed(4)
    z, h = torch.randn(2, 200, 8).unbind(0)
    full = float(cross_view_infonce(torch.arange(200), z, h, 0.2))
    draws = torch.stack([cross_view_infonce(torch.randperm(200)[:size], z, h, 0.2) for _ in range(400)])
    error = float(draws.std()) / math.sqrt(len(draws))
    assert abs(float(draws.mean()) - full) < 4 * error
    assert error < 0.02 * full  # so that a bias of a tenth would show


def test_upstream_gradient_scales_and_backward_repeats(views):
    z, h = (view.clone().requires_grad_() for view in views)
    loss = cross_view_infonce(torch.arange(12), z, h, 0.4)
    once = torch.autograd.grad(loss, z, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(3 * loss, z)[0], 3 * once)


def test_a_second_derivative_is_refused_rather_than_wrong(views):
    z, h = (view.clone().requires_grad_() for view in views)
    loss = cross_view_infonce(torch.arange(12), z, h, 0.4)
    (gradient,) = torch.autograd.grad(loss, z, create_graph=True)
    with pytest.raises(RuntimeError, match=r"does not require grad|once_differentiable"):
        gradient.sum().backward()


def test_gradient_of_one_view_alone(views):
    z, h = views[0].clone().requires_grad_(), views[1]
    both = views[1].clone().requires_grad_()
    alone = torch.autograd.grad(cross_view_infonce(torch.arange(12), z, h, 0.4), z)[0]
    torch.testing.assert_close(
        alone, torch.autograd.grad(cross_view_infonce(torch.arange(12), z, both, 0.4), z)[0]
    )


def test_memory_is_not_quadratic():
    """However many keys there are, no more exponentials than a tile's are held."""
    seen = []
    original = module._powers

    def counted(exponents, shift, tau):
        seen.append(exponents.numel())
        return original(exponents, shift, tau)

    torch.manual_seed(0)
    z, h = torch.randn(2, 40_000, 2).unbind(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_powers", counted)
        cross_view_infonce(torch.arange(64), z.requires_grad_(), h, 0.5).backward()
    assert max(seen) <= module.TILE["cpu"]
    assert sum(seen) == 2 * 64 * 80_000  # once for the value, once for the gradient


def test_without_gradient_nothing_is_computed_for_it():
    z = torch.randn(20, 3, requires_grad=True)
    with torch.no_grad():
        assert not cross_view_infonce(torch.arange(20), z, z, 0.5).requires_grad


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((torch.arange(3), torch.randn(3, 2), torch.randn(4, 2), 0.1), "two views of the same nodes"),
        ((torch.arange(0), torch.randn(3, 2), torch.randn(3, 2), 0.1), "at least one row"),
        ((torch.arange(3), torch.randn(3, 2), torch.randn(3, 2), 0.0), "tau must be positive, not 0.0"),
        ((torch.arange(3), torch.randn(3, 2), torch.randn(3, 2), math.nan), "tau must be positive, not nan"),
        ((torch.arange(3), torch.randn(3, 2).half(), torch.randn(3, 2).half(), 0.1), "float32 or float64"),
    ],
)
def test_what_does_not_fit_is_told(arguments, said):
    with pytest.raises(ValueError, match=said):
        cross_view_infonce(*arguments)


# ---- given negatives


@pytest.mark.parametrize("tau", [0.05, 0.2, 1.0])
def test_given_negatives_equal_the_formula(tau):
    torch.manual_seed(0)
    anchor, positive = torch.randn(2, 5, 3, dtype=torch.double).unbind(0)
    negatives = torch.randn(7, 3, dtype=torch.double)
    mask = torch.rand(5, 7) < 0.3
    total = 0.0
    for b in range(5):
        own = math.exp(cosine(anchor[b].tolist(), positive[b].tolist()) / tau)
        others = [
            cosine(anchor[b].tolist(), q.tolist()) / tau
            for q, m in zip(negatives, mask[b], strict=True)
            if not m
        ]
        total -= math.log(own / (own + sum(math.exp(e) for e in others)))
    found = infonce(anchor, positive, negatives, tau, mask)
    assert float(found) == pytest.approx(total / 5, rel=1e-12)


def test_given_negatives_gradient_and_edges():
    torch.manual_seed(0)
    anchor, positive, negatives = (
        torch.randn(4, 3, dtype=torch.double, requires_grad=True) for _ in range(3)
    )
    mask = torch.eye(4, dtype=torch.bool)
    mask[2] = True
    assert torch.autograd.gradcheck(
        lambda a, p, q: infonce(a, p, q, 0.1, mask), (anchor, positive, negatives)
    )
    assert float(infonce(anchor, positive, negatives, 0.1, torch.ones(4, 4, dtype=torch.bool))) == 0
    assert float(infonce(anchor, positive, negatives[:0], 0.1)) == 0
    with pytest.raises(ValueError, match="tau must be positive"):
        infonce(anchor, positive, negatives, -1)


def test_both_losses_agree_where_both_apply():
    """With one anchor, CL's denominator is its positive and the given negatives are all other keys."""
    torch.manual_seed(0)
    z, h = torch.randn(2, 6, 3, dtype=torch.double).unbind(0)
    others = torch.cat([h[[0, 1, 3, 4, 5]], z[[0, 1, 3, 4, 5]]])
    torch.testing.assert_close(
        cross_view_infonce(torch.tensor([2]), z, h, 0.3), infonce(z[[2]], h[[2]], others, 0.3)
    )


def test_unit_rows():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-18, 0.0]], requires_grad=True)
    torch.testing.assert_close(unit(x), torch.tensor([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]]))
    unit(x)[:2].sum().backward()
    assert torch.equal(x.grad[1], torch.zeros(2))
    assert torch.isfinite(x.grad).all()
