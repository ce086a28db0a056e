"""Encoders of graph contrastive models beside dense matrices."""

import pytest
import torch

from recbole_llmgraph.graph.encoder import (
    LightEncoder,
    SGLEncoder,
    SimGCLEncoder,
    XSimGCLEncoder,
    noisy_layers,
)

USERS, ITEMS = 6, 8
SIZES = (USERS, ITEMS)


@pytest.fixture
def pairs():
    torch.manual_seed(0)
    users, items = torch.randint(1, USERS, (20,)), torch.randint(1, ITEMS, (20,))
    return users, items


def dense(users, items):
    """D^-1/2 A D^-1/2, entry by entry."""
    n = USERS + ITEMS
    A = torch.zeros(n, n)
    for u, i in zip(users.tolist(), items.tolist(), strict=True):
        A[u, USERS + i] = A[USERS + i, u] = 1
    d = A.sum(1)
    scale = torch.where(d > 0, d, torch.ones(n)).rsqrt() * (d > 0)
    return scale[:, None] * A * scale[None, :]


def powers(A, x, layers):
    found = [x]
    for _ in range(layers):
        found.append(A @ found[-1])
    return found


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(USERS + ITEMS, 5)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_layer_0_is_in_lightgcn_and_sgl_and_not_in_simgcl_and_xsimgcl(pairs, x, layers):
    A = dense(*pairs)
    with_zero = torch.stack(powers(A, x, layers)).mean(0)
    without = torch.stack(powers(A, x, layers)[1:]).mean(0)
    for encoder, expected in (
        (LightEncoder(*pairs, *SIZES, layers), with_zero),
        (SGLEncoder(*pairs, *SIZES, layers, drop=0.3), with_zero),
        (SimGCLEncoder(*pairs, *SIZES, layers, noise=0.1), without),
        (XSimGCLEncoder(*pairs, *SIZES, layers, noise=0.1, contrast_layer=1), without),
    ):
        torch.testing.assert_close(encoder.clean(x), expected)
    assert not torch.allclose(with_zero, without)


def test_noise_keeps_signs_and_has_its_length(pairs, x):
    encoder = SimGCLEncoder(*pairs, *SIZES, 1, noise=0.3)
    (noisy,) = noisy_layers(encoder.adjacency, x, 1, 0.3)
    clean = encoder.adjacency @ x
    shift = noisy - clean
    met = clean.abs().sum(1) > 0
    torch.testing.assert_close(shift[met].norm(dim=1), torch.full((int(met.sum()),), 0.3))
    assert (shift * clean >= 0).all() and (shift[~met] == 0).all()
    assert not torch.equal(noisy_layers(encoder.adjacency, x, 1, 0.3)[0], noisy)


def test_xsimgcl_is_one_pass_whose_layer_is_the_other_view(pairs, x):
    A = dense(*pairs)
    encoder = XSimGCLEncoder(*pairs, *SIZES, 3, noise=0.2, contrast_layer=2)
    torch.manual_seed(5)
    views = encoder(x)
    torch.manual_seed(5)
    layers, at = [], x
    for _ in range(3):
        at = A @ at
        noise = torch.nn.functional.normalize(torch.rand(at.shape), dim=-1)
        at = at + torch.sign(at) * noise * 0.2
        layers.append(at)
    torch.testing.assert_close(views.final, torch.stack(layers).mean(0))
    assert views.anchor is views.final
    torch.testing.assert_close(views.other, layers[1])


def test_simgcl_scores_without_noise_and_draws_two_views(pairs, x):
    encoder = SimGCLEncoder(*pairs, *SIZES, 2, noise=0.2)
    views = encoder(x)
    torch.testing.assert_close(views.final, encoder.clean(x))
    assert not torch.equal(views.anchor, views.other) and not torch.equal(views.anchor, views.final)
    still = SimGCLEncoder(*pairs, *SIZES, 2, noise=0.0)(x)
    torch.testing.assert_close(still.anchor, still.final)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_simgcls_views_and_gradients_are_those_of_two_noisy_passes(pairs, x, layers):
    A, x = dense(*pairs), x.requires_grad_()
    torch.manual_seed(5)
    views = SimGCLEncoder(*pairs, *SIZES, layers, noise=0.2)(x)
    torch.manual_seed(5)
    for mine in (views.anchor, views.other):
        passes, at = [], x
        for _ in range(layers):
            at = A @ at
            at = at + at.sign() * torch.nn.functional.normalize(torch.rand(x.shape), dim=-1) * 0.2
            passes.append(at)
        slow = torch.stack(passes).mean(0)
        torch.testing.assert_close(mine, slow)
        weights = torch.arange(slow.numel()).view_as(slow).cos()
        asked = [
            torch.autograd.grad((found * weights).sum(), x, retain_graph=True)[0] for found in (mine, slow)
        ]
        torch.testing.assert_close(*asked)


def test_sgl_drops_a_share_of_the_edges_anew_every_epoch(pairs, x):
    encoder = SGLEncoder(*pairs, *SIZES, 2, drop=0.5)
    n_edges = encoder.pairs.shape[1]
    encoder.new_epoch()
    first = [graph.cols.clone() for graph in encoder.graphs]
    assert [len(cols) for cols in first] == [2 * round(n_edges / 2)] * 2
    views = encoder(x)
    for view, graph in zip((views.anchor, views.other), encoder.graphs, strict=True):
        A = torch.zeros(USERS + ITEMS, USERS + ITEMS)
        ends = torch.repeat_interleave(torch.arange(USERS + ITEMS), graph.rows.diff().long())
        chosen = ends < USERS
        own = dense(ends[chosen], graph.cols[chosen].long() - USERS)
        assert set(map(tuple, own.nonzero().tolist())) <= set(map(tuple, dense(*pairs).nonzero().tolist()))
        torch.testing.assert_close(view, torch.stack(powers(own, x, 2)).mean(0))
        assert A.shape == own.shape
    assert not torch.equal(views.anchor, views.other)
    encoder.new_epoch()
    assert any(not torch.equal(a, g.cols) for a, g in zip(first, encoder.graphs, strict=True))


def test_impossible_layers_are_refused(pairs):
    with pytest.raises(ValueError, match="n_layers must be at least 1"):
        SimGCLEncoder(*pairs, *SIZES, 0, noise=0.1)
    with pytest.raises(ValueError, match=r"contrast_layer must lie in 1 \.\. 2, not 3"):
        XSimGCLEncoder(*pairs, *SIZES, 2, noise=0.1, contrast_layer=3)
