"""Group-InfoNCE against its formula in Python floats, and its gradients against differences."""

import math

import pytest
import torch

from recbole_llmgraph.loss import group_infonce as module
from recbole_llmgraph.loss.bpr import floored_bpr
from recbole_llmgraph.loss.group_infonce import Temperatures, group_infonce, group_temperatures


def cosine(a, b):
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 0.0


def by_loops(anchors, views, groups, tau, weight):
    """The mean of l_a as SPEC 5.3 writes it."""
    anchors, views = anchors.tolist(), views.tolist()
    losses = []
    for a, own in enumerate(anchors):
        positive = math.exp(cosine(own, views[a]) / tau.positive)
        total = positive
        for b, other in enumerate(views):
            if b == a:
                continue
            if groups is not None and groups[a] == groups[b]:
                total += weight * math.exp(cosine(own, other) / tau.same)
            else:
                total += math.exp(cosine(own, other) / tau.rest)
        losses.append(-math.log(positive / total))
    return sum(losses) / len(losses)


@pytest.fixture(params=[1 << 20, 22, 1], ids=["one tile", "two rows a tile", "a row a tile"])
def tiled(request, monkeypatch):
    monkeypatch.setattr(module, "TILE", request.param)


@pytest.fixture
def views():
    torch.manual_seed(0)
    return torch.randn(2, 11, 4, dtype=torch.double).unbind(0)


GROUPS = [None, [0] * 11, list(range(11)), [3, 0, 3, 3, 1, 0, 3, 1, 9, 0, 0]]


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.0])
@pytest.mark.parametrize(
    "tau", [group_temperatures(1.0), group_temperatures(0.2), Temperatures(0.02, 0.05, 3.0)]
)
@pytest.mark.parametrize("groups", GROUPS, ids=["no groups", "one", "one each", "some"])
def test_equals_the_formula(tiled, views, groups, tau, weight):
    of = None if groups is None else torch.tensor(groups)
    found = group_infonce(*views, of, tau, weight)
    assert float(found) == pytest.approx(by_loops(*views, groups, tau, weight), rel=1e-12)


@pytest.mark.parametrize("groups", GROUPS[::3], ids=["no groups", "some"])
def test_gradients_equal_differences(tiled, views, groups):
    of = None if groups is None else torch.tensor(groups)
    wanted = [view.clone().requires_grad_() for view in views]
    assert torch.autograd.gradcheck(
        lambda a, v: group_infonce(a, v, of, group_temperatures(0.5), 2.0), wanted, atol=1e-6
    )


def test_one_view_read_twice_gets_both_gradients():
    """XSimGCL's final nodes and one of their layers share their beginning."""
    torch.manual_seed(1)
    x = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda y: group_infonce(y * 2 + 1, y, torch.tensor([0, 1, 0, 1, 1]), group_temperatures(1.0), 2.0),
        [x],
    )


def test_equal_temperatures_and_weight_one_are_plain_infonce(views):
    even = Temperatures(0.3, 0.3, 0.3)
    logits = torch.nn.functional.normalize(views[0]) @ torch.nn.functional.normalize(views[1]).T / 0.3
    plain = torch.nn.functional.cross_entropy(logits, torch.arange(11))
    for groups in (None, torch.tensor(GROUPS[3])):
        torch.testing.assert_close(group_infonce(*views, groups, even, 1.0), plain)


def test_the_papers_temperatures():
    assert group_temperatures(1.0) == (1.0, 0.1, 0.25)
    assert group_temperatures(0.2) == (0.2, 0.1, 0.1)
    assert group_temperatures(0.2, equal=True) == (0.2, 0.2, 0.2)


@pytest.mark.parametrize("tau", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("equal", [False, True])
def test_warmer_positives_reward_views_that_oppose(tau, equal):
    """All nodes alike, both views opposed, against both the same: what training with found groups ends in."""
    torch.manual_seed(0)
    groups = torch.arange(300) % 6
    near = torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0]]) + 0.1 * torch.randn(300, 3))
    opposed, together, spread = (
        group_infonce(*views, groups, group_temperatures(tau, equal=equal), 2.0)
        for views in ((near, -near), (near, near), [torch.randn(300, 64)] * 2)
    )
    assert (opposed < together - 1) != equal
    assert (opposed < spread) != equal


def test_nothing_of_n_by_n_by_groups_is_held(monkeypatch):
    """The largest block of numbers is a tile: anchors of a tile times all nodes."""
    monkeypatch.setattr(module, "TILE", 4000)
    largest = 0
    original = module.times_transposed

    def watched(a, b):
        nonlocal largest
        found = original(a, b)
        largest = max(largest, found.numel())
        return found

    monkeypatch.setattr(module, "times_transposed", watched)
    x = torch.randn(400, 4, requires_grad=True)
    group_infonce(x, x.detach(), torch.randint(0, 40, (400,)), group_temperatures(1.0), 2.0).backward()
    assert largest <= 4000


def test_wrong_numbers_are_refused(views):
    with pytest.raises(ValueError, match="two views of at least one node"):
        group_infonce(views[0], views[1][:3], None, group_temperatures(1.0), 2.0)
    with pytest.raises(ValueError, match=r"at least 0\.02 and 0 are allowed"):
        group_infonce(*views, None, Temperatures(0.01, 0.1, 0.1), 2.0)


def test_floored_bpr():
    positive, negative = torch.tensor([1.0, -30.0]), torch.tensor([0.5, 30.0])
    expected = [-math.log(1e-5 + 1 / (1 + math.exp(-0.5))), -math.log(1e-5)]
    assert float(floored_bpr(positive, negative)) == pytest.approx(sum(expected) / 2, rel=1e-6)
