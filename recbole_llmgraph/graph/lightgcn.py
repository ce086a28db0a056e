"""LightGCN propagation: no weights, no non-linearity, the mean over layers."""

from torch import Tensor

from recbole_llmgraph.graph.sparse import SparseMatrix


def light_propagation(adjacency: SparseMatrix, x: Tensor, n_layers: int) -> Tensor:
    """Mean over l = 0 .. `n_layers` of A^l x (He et al., LightGCN, SIGIR 2020, eq. 4 with equal weights).

    Args:
        adjacency: `[n, n]`.
        x: `[n, d]`.
        n_layers: at least 0; 0 returns `x`.

    Returns:
        `[n, d]`.
    """
    total = layer = x
    for _ in range(n_layers):
        layer = adjacency(layer)
        total = total + layer
    return total / (n_layers + 1) if n_layers else total
