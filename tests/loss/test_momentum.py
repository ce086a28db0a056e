"""A copy that follows, against the sum that its weights are."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from recbole_llmgraph.loss.momentum import MomentumCopy


class Net(nn.Module):
    """A trained and a frozen layer, dropout, and one weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.trained = nn.Linear(3, 3)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.dropout = nn.Dropout(0.5)
        self.again = self.trained
        self.idle = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.again(self.dropout(torch.tanh(self.frozen(self.trained(x)))))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([0.0, 0.3, 0.9, 1.0]), st.lists(st.floats(-3, 3), max_size=5))
def test_the_copy_is_the_weighted_sum_of_the_past(momentum: float, moves: list[float]) -> None:
    torch.manual_seed(0)
    net = nn.Linear(2, 1, bias=False).double()
    copy = MomentumCopy(net, momentum)
    expected = net.weight.detach().clone()
    for move in moves:
        with torch.no_grad():
            net.weight.add_(move)
        copy.follow(net)
        expected = momentum * expected + (1 - momentum) * net.weight.detach()
    (kept,) = copy.buffers()
    torch.testing.assert_close(kept, expected)


def test_answers_are_those_of_a_network_with_the_copied_weights() -> None:
    torch.manual_seed(0)
    net, x = Net(), torch.randn(4, 3)
    copy = MomentumCopy(net, 0.9)
    old = Net()
    old.load_state_dict(net.state_dict())
    with torch.no_grad():
        for weight in net.trained.parameters():
            weight.add_(1.0)
    torch.testing.assert_close(copy(net, x), old.eval()(x))  # the shared layer is the copy at both places
    assert not torch.allclose(copy(net, x), net.eval()(x))


def test_asking_changes_nothing_and_learns_nothing() -> None:
    net = Net().train()
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    copy = MomentumCopy(net, 0.5)
    found = copy(net, torch.randn(4, 3, requires_grad=True))
    assert not found.requires_grad
    assert net.training and net.dropout.training
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())
    assert all(weight.grad is None for weight in net.parameters())
    assert not list(copy.parameters())


def test_a_network_that_fails_is_given_back_as_it_was() -> None:
    net = Net().train()
    before = net.trained.weight
    with pytest.raises(RuntimeError):
        MomentumCopy(net, 0.5)(net, torch.randn(4, 7))
    assert net.training and net.trained.weight is before


def test_frozen_weights_are_not_copied_and_shared_ones_once() -> None:
    net = Net()
    copied = sum(buffer.numel() for buffer in MomentumCopy(net, 0.5).buffers())
    assert copied == 2 * (9 + 3)  # `trained` and `idle`, neither `frozen` nor `again`
    with torch.no_grad():
        net.frozen.weight.zero_()
        net.frozen.bias.zero_()
    net.eval()
    constant = MomentumCopy(net, 0.5)(net, torch.randn(5, 3))
    assert torch.equal(constant, constant[:1].expand(5, -1))  # it reads the network's own frozen weights


def test_a_saved_copy_goes_on_where_it_stopped() -> None:
    net = Net()
    copy, again = MomentumCopy(net, 0.9), MomentumCopy(Net(), 0.9)
    again.load_state_dict(copy.state_dict())
    with torch.no_grad():
        net.trained.weight.add_(1.0)
    for one in (copy, again):
        one.follow(net)
    assert all(torch.equal(a, b) for a, b in zip(copy.buffers(), again.buffers(), strict=True))


@pytest.mark.parametrize("momentum", [-0.1, 1.1])
def test_a_momentum_outside_its_range_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
        MomentumCopy(nn.Linear(1, 1), momentum)
