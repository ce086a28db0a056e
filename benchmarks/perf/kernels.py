#!/usr/bin/env python
"""Each graph and loss kernel beside a named plain way, on a made graph of Amazon Beauty's size.

Both ways run in turns in one process, forward and backward; a line gives the median of each, their
ratio, and the largest difference of their gradients relative to the largest gradient.

examples:
  python benchmarks/perf/kernels.py
  python benchmarks/perf/kernels.py --threads 1 --only infonce,product
  python benchmarks/perf/kernels.py --scale 4 --repeats 5
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric import EdgeIndex

from recbole_llmgraph.graph.bipartite import bipartite_adjacency
from recbole_llmgraph.graph.hypergraph import ItemHypergraph, UserHypergraph
from recbole_llmgraph.graph.knn import cosine_knn
from recbole_llmgraph.graph.lightgcn import light_propagation
from recbole_llmgraph.loss.infonce import cross_view_infonce
from recbole_llmgraph.loss.product import times_transposed

#: Beauty: users, items, training interactions.
USERS, ITEMS, PAIRS = 22_363, 12_101, 153_776
WIDTH, ANCHORS, TAU, K, TEXT = 64, 1024, 0.5, 10, 384

Function = Callable[[Tensor], Tensor]


@dataclass
class Contest:
    """Ours against a plain way: the same function of the same input."""

    work: str
    plain_way: str
    ours: Function
    plain: Function
    x: Tensor
    differentiable: bool = True


class Graph(NamedTuple):
    """A made graph, padding (id 0) included in the counts."""

    users: Tensor
    items: Tensor
    n_users: int
    n_items: int


def made_graph(scale: float) -> Graph:
    """Pairs with every user in, and a long tail of items."""
    rng = np.random.default_rng(0)
    n_users, n_items, n_pairs = (max(8, round(count * scale)) for count in (USERS, ITEMS, PAIRS))
    popularity = np.arange(1, n_items + 1) ** -0.5  # A·Aᵀ gets about as many entries as Beauty's
    items = 1 + rng.choice(n_items, n_pairs, p=popularity / popularity.sum())
    users = 1 + np.concatenate([np.arange(n_users), rng.integers(0, n_users, max(0, n_pairs - n_users))])
    return Graph(torch.from_numpy(users[:n_pairs]), torch.from_numpy(items), n_users + 1, n_items + 1)


def coo(rows: Tensor, cols: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """A coalesced matrix; repeats add up."""
    return torch.sparse_coo_tensor(torch.stack([rows, cols]), values, size).coalesce()


def propagation(graph: Graph) -> Iterator[Contest]:
    """Two layers of LightGCN against the same layers through PyTorch's and PyG's sparse products."""
    adjacency = bipartite_adjacency(*graph)
    n = adjacency.size[0]
    rows = torch.repeat_interleave(torch.arange(n), adjacency.rows.diff().long())
    cols, values = adjacency.cols.long(), adjacency.values
    plain = coo(rows, cols, values, adjacency.size)
    compressed = plain.to_sparse_csr()
    index = EdgeIndex(torch.stack([rows, cols]), sparse_size=(n, n), sort_order="row", is_undirected=True)
    index.fill_cache_()
    ways: dict[str, Function] = {
        "torch.sparse COO": lambda x: torch.sparse.mm(plain, x),
        "torch CSR": lambda x: compressed @ x,
        "EdgeIndex.matmul": lambda x: index.matmul(x, input_value=values),
    }
    x = torch.randn(n, WIDTH)
    for name, once in ways.items():

        def layers(x: Tensor, once: Function = once) -> Tensor:
            first = once(x)
            return (x + first + once(first)) / 3

        yield Contest("2 bipartite layers", name, lambda x: light_propagation(adjacency, x, 2), layers, x)


def hypergraphs(graph: Graph) -> Iterator[Contest]:
    """One layer of each hypergraph against the product A A', built once and multiplied by."""
    ours = UserHypergraph(*graph)
    a = coo(graph.users, graph.items, torch.ones(len(graph.users)), (graph.n_users, graph.n_items))
    a = torch.sparse_coo_tensor(a.indices(), torch.ones(a.values().shape), a.shape).coalesce()
    both = torch.sparse.mm(a, a.T).coalesce()
    rows, cols = both.indices()
    off = rows != cols
    rows, cols, values = rows[off], cols[off], both.values()[off]
    sums = torch.zeros(graph.n_users).index_add_(0, rows, values)
    built = coo(rows, cols, values / sums[rows], (graph.n_users, graph.n_users)).to_sparse_csr()
    name = f"CSR of A·Aᵀ, {len(values) / 1e6:.1f} M entries"
    yield Contest("user hypergraph", name, ours, lambda x: built @ x, torch.randn(graph.n_users, WIDTH))

    n = graph.n_items
    items = torch.arange(1, n).unsqueeze(1)
    table = torch.cat([items, torch.randint(1, n, (n - 1, K - 1))], dim=1)
    spread = ItemHypergraph([table], n)
    incidence = coo(items.repeat(1, K).view(-1), table.view(-1), torch.ones(table.numel()), (n, n))
    incidence = torch.sparse_coo_tensor(incidence.indices(), torch.ones(incidence.values().shape), (n, n))
    incidence = incidence.coalesce()
    both = torch.sparse.mm(incidence, incidence.T).coalesce()
    rows, cols = both.indices()
    sums = torch.zeros(n).index_add_(0, rows, both.values()).clamp(min=1)
    values = both.values() * (sums[rows] * sums[cols]).rsqrt()
    kept = coo(rows, cols, values, (n, n)).to_sparse_csr()
    name = f"CSR of Ī·Īᵀ, {len(values) / 1e6:.1f} M entries"
    yield Contest("item hypergraph", name, spread, lambda x: kept @ x, torch.randn(n, WIDTH))


def plain_infonce(anchors: Tensor, z: Tensor, h: Tensor, tau: float) -> Tensor:
    """CL(z, h) as one writes it down: all exponents of the anchors at once, gradient by autograd."""
    z, h = F.normalize(z), F.normalize(h)
    own = z[anchors]
    cross, within = own @ h.T / tau, own @ z.T / tau
    within = within.scatter(1, anchors.unsqueeze(1), -torch.inf)
    return (torch.cat([cross, within], dim=1).logsumexp(1) - (own * h[anchors]).sum(1) / tau).mean()


def contrasts(graph: Graph) -> Iterator[Contest]:
    """The streamed loss over users and over items against the loss as one writes it down."""
    for who, n in (("users", graph.n_users - 1), ("items", graph.n_items - 1)):
        anchors = torch.randperm(n)[:ANCHORS]
        other = torch.randn(n, WIDTH)
        yield Contest(
            f"InfoNCE, {len(anchors):,} anchors × {2 * n:,} {who}",
            "dense rows, autograd",
            lambda x, anchors=anchors, other=other: cross_view_infonce(anchors, x, other, TAU),
            lambda x, anchors=anchors, other=other: plain_infonce(anchors, x, other, TAU),
            torch.randn(n, WIDTH),
        )


def neighbours(graph: Graph) -> Iterator[Contest]:
    """Nearest items by text against an N x N matrix and one top-k."""
    features = torch.randn(graph.n_items - 1, TEXT)

    def whole(x: Tensor) -> Tensor:
        unit = F.normalize(x)
        return (unit @ unit.T).topk(K, dim=1).indices

    yield Contest(
        f"{K} nearest of {len(features):,}",
        "N×N matrix, topk",
        lambda x: cosine_knn(x, K),
        whole,
        features,
        False,
    )


def products(graph: Graph) -> Iterator[Contest]:
    """The dense product under the contrastive loss and under full-sort scores."""
    keys = torch.randn(graph.n_items, WIDTH)
    yield Contest(
        f"{ANCHORS} × {WIDTH} × {len(keys):,}",
        "a @ b.T",
        lambda x: times_transposed(x, keys),
        lambda x: x @ keys.T,
        torch.randn(ANCHORS, WIDTH),
        False,
    )


GROUPS: dict[str, Callable[[Graph], Iterator[Contest]]] = {
    "propagation": propagation,
    "hypergraph": hypergraphs,
    "infonce": contrasts,
    "knn": neighbours,
    "product": products,
}


def run_once(function: Function, contest: Contest, clock: Callable[[], float]) -> tuple[float, Tensor]:
    """Seconds of one call, backward included, and what it gave: the gradient, or the result."""
    x = contest.x.clone().requires_grad_(contest.differentiable)
    started = clock()
    y = function(x)
    if contest.differentiable:
        y.backward(torch.ones_like(y) if y.dim() == 0 else contest.x[: len(y)])
    seconds = clock() - started
    return seconds, x.grad if x.grad is not None else y.detach().to(torch.float32)


def hold(contest: Contest, repeats: int, clock: Callable[[], float]) -> str:
    """Run both ways in turns; one line of the table."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        ours, found = run_once(contest.ours, contest, clock)
        plain, expected = run_once(contest.plain, contest, clock)
        if turn:  # the first is for warming up
            seconds[0].append(ours)
            seconds[1].append(plain)
    ours, plain = (float(np.median(times)) for times in seconds)
    gap = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
    return (
        f"| {contest.work} | {contest.plain_way} | {plain * 1e3:.1f} | {ours * 1e3:.1f} "
        f"| {plain / ours:.1f}× | {gap:.0e} |"
    )


def main() -> None:
    """Hold every contest and print one Markdown table."""
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(GROUPS), help=f"comma list of {', '.join(GROUPS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="times Beauty's users, items and pairs")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: processor time, for a busy machine"
    )
    options = parser.parse_args()
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    chosen = options.only.split(",")
    if unknown := [name for name in chosen if name not in GROUPS]:
        parser.error(f"no kernels '{unknown[0]}'; known: {', '.join(GROUPS)}")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    graph = made_graph(options.scale)
    print(
        f"{options.threads} threads, {options.clock} time, torch {torch.__version__}, d = {WIDTH}, float32\n"
    )
    print("| kernel | plain way | plain ms | ours ms | ratio | largest difference |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name in chosen:
        for contest in GROUPS[name](graph):
            print(hold(contest, options.repeats, clock), flush=True)


if __name__ == "__main__":
    main()
