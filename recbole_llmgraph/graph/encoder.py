"""Graph encoders whose layers, or whose graphs, are shaken to give views for a contrastive loss.

| encoder | scores read | views |
|---|---|---|
| `LightEncoder` | mean of layers 0 .. L | none |
| `DroppedEncoder` | sum of layers 0 .. L | none; trained on a graph without some edges |
| `SGLEncoder` | mean of layers 0 .. L | the same on two graphs that lack some edges, drawn every epoch |
| `SimGCLEncoder` | mean of layers 1 .. L | the same twice with noise in every layer |
| `XSimGCLEncoder` | mean of layers 1 .. L | that mean, with noise, and one of its layers: one propagation |

Papers: LightGCN (SIGIR 2020), SGL (SIGIR 2021), SimGCL (SIGIR 2022), XSimGCL (TKDE 2023).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.graph.bipartite import bipartite_adjacency
from recbole_llmgraph.graph.lightgcn import light_propagation
from recbole_llmgraph.graph.sparse import SparseMatrix, distinct_pairs


class Views(NamedTuple):
    """What a training step reads, `[n, d]` each."""

    final: Tensor
    """Nodes whose inner products are scores."""
    anchor: Tensor | None
    """One view, None without contrast."""
    other: Tensor | None
    """The other."""


def noisy_layers(adjacency: SparseMatrix, x: Tensor, n_layers: int, noise: float) -> list[Tensor]:
    """Layers 1 .. L of y = A x, x <- y + sign(y) * normalize(U[0, 1)) * noise (XSimGCL eq. 6-7).

    Args:
        adjacency: `[n, n]`.
        x: `[n, d]`, layer 0.
        n_layers: L, at least 1.
        noise: length of each row's shift; 0 draws nothing.

    Returns:
        L tensors `[n, d]`.
    """
    layers = []
    for _ in range(n_layers):
        x = adjacency @ x
        if noise:
            x = x + noise_beside(x, torch.rand_like(x), noise)
        layers.append(x)
    return layers


def noise_beside(x: Tensor, drawn: Tensor, noise: float) -> Tensor:
    """sign(x) * normalize(drawn) * noise, row by row; constant to the gradient. `[..., d]`"""
    return F.normalize(drawn, dim=-1).mul_(x.detach().sign()).mul_(noise)


def layer_mean(layers: list[Tensor]) -> Tensor:
    """Mean of layers. `[n, d]`"""
    total = layers[0]
    for layer in layers[1:]:
        total = total + layer
    return total / len(layers)


class LightEncoder(nn.Module):
    """LightGCN: no views.

    Args:
        users: `[E]` who chose
        items: `[E]` what.
        n_users: number of users, padding included.
        n_items: number of items, padding included.
        n_layers: L.
    """

    def __init__(self, users: Tensor, items: Tensor, n_users: int, n_items: int, n_layers: int) -> None:
        super().__init__()
        self.sizes, self.n_layers = (n_users, n_items), n_layers
        self.adjacency = bipartite_adjacency(users, items, n_users, n_items)

    def new_epoch(self) -> None:
        """Draw what an epoch holds fixed."""

    def clean(self, x: Tensor) -> Tensor:
        """Nodes for scoring. `[n, d]`"""
        return light_propagation(self.adjacency, x, self.n_layers)

    def forward(self, x: Tensor) -> Views:
        """Nodes and views of a training step."""
        return Views(self.clean(x), None, None)


class DroppedEncoder(LightEncoder):
    """RLMRec's LightGCN: layers add up; trained without a fraction `drop` of the edges.

    The edges that stay keep the weights of the whole graph.
    """

    def __init__(
        self, users: Tensor, items: Tensor, n_users: int, n_items: int, n_layers: int, *, drop: float
    ) -> None:
        super().__init__(users, items, n_users, n_items, n_layers)
        pairs = distinct_pairs(users, items, self.sizes)
        self.register_buffer("pairs", torch.stack(pairs), persistent=False)
        self.drop = drop
        self.dropped = self.adjacency

    pairs: Tensor

    def new_epoch(self) -> None:
        """Draw which edges stay, each in both directions or in neither."""
        if self.drop:
            self.dropped = self._draw()

    def _draw(self) -> SparseMatrix:
        users, items = self.pairs[0], self.pairs[1] + self.sizes[0]
        nodes = sum(self.sizes)
        degree = torch.bincount(torch.cat([users, items]), minlength=nodes).double()
        weight = (degree[users] * degree[items]).rsqrt().float()
        stay = torch.rand(len(users), device=users.device) >= self.drop
        users, items, weight = users[stay], items[stay], weight[stay]
        rows, cols = torch.cat([users, items]), torch.cat([items, users])
        return SparseMatrix(rows, cols, weight.repeat(2), (nodes, nodes))

    def clean(self, x: Tensor) -> Tensor:
        """Nodes for scoring, over all edges. `[n, d]`"""
        return light_propagation(self.adjacency, x, self.n_layers) * (self.n_layers + 1)

    def forward(self, x: Tensor) -> Views:
        """Nodes over the edges that stay."""
        return Views(light_propagation(self.dropped, x, self.n_layers) * (self.n_layers + 1), None, None)


class SGLEncoder(LightEncoder):
    """SGL with edge dropout: two graphs an epoch, each without a fraction `drop` of the edges."""

    def __init__(
        self, users: Tensor, items: Tensor, n_users: int, n_items: int, n_layers: int, *, drop: float
    ) -> None:
        super().__init__(users, items, n_users, n_items, n_layers)
        pairs = distinct_pairs(users, items, self.sizes)
        self.register_buffer("pairs", torch.stack(pairs), persistent=False)
        self.drop = drop
        self.graphs: list[SparseMatrix] = []

    pairs: Tensor

    def new_epoch(self) -> None:
        """Draw the two graphs, each normalised by its own degrees."""
        kept = round(self.pairs.shape[1] * (1 - self.drop))
        self.graphs = []
        for _ in range(2):
            rows = torch.randperm(self.pairs.shape[1], device=self.pairs.device)[:kept]
            users, items = self.pairs[:, rows]
            self.graphs.append(bipartite_adjacency(users, items, *self.sizes))

    def forward(self, x: Tensor) -> Views:
        """Three propagations."""
        if not self.graphs:
            self.new_epoch()
        anchor, other = (light_propagation(graph, x, self.n_layers) for graph in self.graphs)
        return Views(self.clean(x), anchor, other)


class SimGCLEncoder(LightEncoder):
    """SimGCL: noise in place of dropped edges.

    A sign has no gradient, so noise and all that propagation makes of it are constants: the views are the
    clean nodes plus an offset each, and one backward serves all three.
    """

    def __init__(
        self, users: Tensor, items: Tensor, n_users: int, n_items: int, n_layers: int, *, noise: float
    ) -> None:
        super().__init__(users, items, n_users, n_items, n_layers)
        if n_layers < 1:
            raise ValueError(f"n_layers must be at least 1, not {n_layers}: layer 0 is not read")
        self.noise = noise

    def clean(self, x: Tensor) -> Tensor:
        """Mean of layers 1 .. L, which is A times the mean of layers 0 .. L - 1. `[n, d]`"""
        return light_propagation(self.adjacency, self.adjacency @ x, self.n_layers - 1)

    def forward(self, x: Tensor) -> Views:
        """The clean nodes and two views."""
        layers = noisy_layers(self.adjacency, x, self.n_layers, 0.0)
        final = layer_mean(layers)
        anchor, other = self._offsets(layers).unbind(1)
        return Views(final, final + anchor, final + other)

    @torch.no_grad()
    def _offsets(self, layers: list[Tensor]) -> Tensor:
        """What two draws of noise add to the mean of the clean layers 1 .. L. `[n, 2, d]`"""
        nodes, width = layers[0].shape
        drawn = [[torch.rand_like(layer) for layer in layers] for _ in range(2)]
        offset = total = layers[0].new_zeros(nodes, 2, width)
        for number, (layer, *pair) in enumerate(zip(layers, *drawn, strict=True)):
            if number:
                offset = self.adjacency(offset.view(nodes, -1)).view_as(offset)
            shaken = layer.unsqueeze(1) + offset
            offset = offset + noise_beside(shaken, torch.stack(pair, dim=1), self.noise)
            total = total + offset
        return total / len(layers)


class XSimGCLEncoder(SimGCLEncoder):
    """XSimGCL: what is scored is perturbed too, and contrasted with layer `contrast_layer` (1 .. L)."""

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        n_users: int,
        n_items: int,
        n_layers: int,
        *,
        noise: float,
        contrast_layer: int,
    ) -> None:
        super().__init__(users, items, n_users, n_items, n_layers, noise=noise)
        if not 1 <= contrast_layer <= n_layers:
            raise ValueError(f"contrast_layer must lie in 1 .. {n_layers}, not {contrast_layer}")
        self.contrast_layer = contrast_layer

    def forward(self, x: Tensor) -> Views:
        """One propagation for all losses."""
        layers = noisy_layers(self.adjacency, x, self.n_layers, self.noise)
        final = layer_mean(layers)
        return Views(final, final, layers[self.contrast_layer - 1])
