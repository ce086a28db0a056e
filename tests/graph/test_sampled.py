"""Inner products of sampled pairs beside a loop, and their gradients beside autograd's."""

import pytest
import torch

from recbole_llmgraph.graph.sampled import SampledPairs


def looped(nodes: torch.Tensor, users: torch.Tensor, items: torch.Tensor, n_users: int) -> torch.Tensor:
    rows = [
        torch.stack([nodes[u] @ nodes[n_users + j] for j in row]) for u, row in zip(users, items, strict=True)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize(("batch", "k"), [(7, 5), (1, 1), (40, 3)])
def test_scores_and_gradients_are_those_of_a_loop(batch: int, k: int) -> None:
    torch.manual_seed(batch)
    nodes = torch.randn(6 + 9, 4, dtype=torch.float64, requires_grad=True)
    users, items = torch.randint(0, 6, (batch,)), torch.randint(0, 9, (batch, k))  # with repeats in rows
    pairs = SampledPairs(users, items, 6, 9)
    scores = pairs.scores(nodes)
    torch.testing.assert_close(scores, looped(nodes, users, items, 6))
    weight = torch.randn(batch, k, dtype=torch.float64)
    (mine,) = torch.autograd.grad((scores * weight).sum(), nodes)
    (theirs,) = torch.autograd.grad((looped(nodes, users, items, 6) * weight).sum(), nodes)
    torch.testing.assert_close(mine, theirs)


def test_one_pattern_serves_several_tables() -> None:
    users, items = torch.tensor([1, 2, 1]), torch.tensor([[1, 2], [3, 3], [0, 2]])
    pairs = SampledPairs(users, items, 3, 4)
    for seed in range(3):
        torch.manual_seed(seed)
        nodes = torch.randn(7, 2, requires_grad=True)
        pairs.scores(nodes).square().sum().backward()
        copy = nodes.detach().clone().requires_grad_()
        looped(copy, users, items, 3).square().sum().backward()
        torch.testing.assert_close(nodes.grad, copy.grad)


def test_no_pairs_have_no_scores_and_no_gradient() -> None:
    nodes = torch.randn(5, 2, requires_grad=True)
    pairs = SampledPairs(torch.zeros(0, dtype=torch.long), torch.zeros(0, 3, dtype=torch.long), 2, 3)
    scores = pairs.scores(nodes)
    assert scores.shape == (0, 3)
    (scores.sum() + nodes.sum()).backward()
    assert torch.equal(nodes.grad, torch.ones(5, 2))


def test_sums_have_one_order_whatever_the_threads() -> None:
    torch.manual_seed(0)
    nodes = torch.randn(300 + 200, 16, requires_grad=True)
    users, items = torch.randint(0, 300, (2048,)), torch.randint(0, 200, (2048, 20))
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            scores = SampledPairs(users, items, 300, 200).scores(nodes)
            found.append((scores.detach(), *torch.autograd.grad(scores.square().sum(), nodes)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
