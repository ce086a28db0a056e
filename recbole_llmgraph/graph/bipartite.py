"""The graph of who used what, in the symmetric normalisation of LightGCN and most of its successors."""

import torch
from torch import Tensor

from recbole_llmgraph.graph.sparse import SparseMatrix, distinct_pairs


def bipartite_adjacency(users: Tensor, items: Tensor, n_users: int, n_items: int) -> SparseMatrix:
    """Build D^-1/2 A D^-1/2 over users and items (He et al., LightGCN, SIGIR 2020, eq. 7-8).

    Node u is user u, node `n_users + i` is item i. Repeated pairs count once; pairs with padding (id 0)
    are left out, so rows and columns 0 and `n_users` are empty.

    Args:
        users: `[E]` user ids.
        items: `[E]` item ids, same order.
        n_users: number of users, padding included.
        n_items: number of items, padding included.

    Returns:
        Matrix of size `[n_users + n_items] * 2`; multiply with `propagate` or `@`.

    Raises:
        ValueError: an id outside its range.
    """
    users, items = distinct_pairs(users, items, (n_users, n_items))
    nodes = n_users + n_items
    rows = torch.cat([users, items + n_users])
    cols = torch.cat([items + n_users, users])
    degree = torch.bincount(rows, minlength=nodes).double()
    values = (degree[rows] * degree[cols]).rsqrt().float()
    return SparseMatrix(rows, cols, values, (nodes, nodes))


def mean_adjacency(users: Tensor, items: Tensor, n_users: int, n_items: int) -> SparseMatrix:
    """Build D^-1 (A + I) over users and items: every node becomes the mean of itself and its neighbours.

    Nodes, arguments and errors are those of `bipartite_adjacency`; padding keeps itself alone.
    """
    users, items = distinct_pairs(users, items, (n_users, n_items))
    nodes = n_users + n_items
    own = torch.arange(nodes, device=users.device)
    rows = torch.cat([users, items + n_users, own])
    cols = torch.cat([items + n_users, users, own])
    values = torch.bincount(rows, minlength=nodes).double().reciprocal()[rows].float()
    return SparseMatrix(rows, cols, values, (nodes, nodes))


def propagate(adjacency: SparseMatrix, x: Tensor) -> Tensor:
    """One step of propagation, `A x`: `[n, d]` to `[n, d]`."""
    return adjacency @ x
