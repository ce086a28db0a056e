"""A constant sparse matrix times dense vectors, with the gradient by its kept transpose."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch_geometric import EdgeIndex

with warnings.catch_warnings():
    # PyTorch says once a process that compressed rows are "in beta"; said here, nobody has to read it.
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
    torch.eye(1).to_sparse_csr()


def distinct_pairs(rows: Tensor, cols: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pairs sorted by row, then column, each once; pairs that hold padding (id 0) are left out.

    Args:
        rows: `[E]` ids in `0 .. size[0] - 1`.
        cols: `[E]` ids in `0 .. size[1] - 1`.
        size: numbers of rows and columns, padding included.

    Raises:
        ValueError: an id outside its range, or lists of different lengths.
    """
    if rows.shape != cols.shape or rows.dim() != 1:
        raise ValueError(f"pairs need two lists of one length, not {list(rows.shape)} and {list(cols.shape)}")
    for name, ids, count in (("row", rows, size[0]), ("column", cols, size[1])):
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < count:
            found = f"{int(ids.min())} .. {int(ids.max())}"
            raise ValueError(f"{name} ids must lie in 0 .. {count - 1}, not {found}")
    real = (rows > 0) & (cols > 0)
    keys = torch.unique(rows[real].long() * size[1] + cols[real].long())
    return keys // size[1], keys % size[1]


class SparseMatrix(nn.Module):
    """Constant sparse `[R, C]` matrix; calling it multiplies dense `[C, d]` rows, exactly differentiable.

    `torch_geometric.EdgeIndex` sorts the entries and finds the compressed rows of the matrix and of
    its transpose; both are kept, so that forward and backward are one row-wise product each. The
    products are our own, because `EdgeIndex.matmul` with values re-orders the values in every
    backward, and `EdgeIndex @ x` has no gradient (PyG 2.8). Buffers move with `.to(device)` and
    stay out of the state dict.
    """

    rows: Tensor
    cols: Tensor
    values: Tensor
    t_rows: Tensor
    t_cols: Tensor
    t_values: Tensor

    def __init__(self, rows: Tensor, cols: Tensor, values: Tensor, size: tuple[int, int]) -> None:
        """Args: positions `[E]`, each at most once, in any order; values `[E]`; size."""
        super().__init__()
        self.size = size
        index, order = EdgeIndex(torch.stack([rows, cols]).long(), sparse_size=size).sort_by(
            "row", stable=True
        )
        values = values if order is None else values[order]
        (row_starts, columns), _ = index.get_csr()
        (t_starts, t_columns), t_order = index.get_csc()
        # 32-bit ids halve the traffic.
        parts = {"rows": row_starts, "cols": columns, "t_rows": t_starts, "t_cols": t_columns}
        for name, ids in parts.items():
            self.register_buffer(name, ids.as_subclass(Tensor).int(), persistent=False)
        self.register_buffer("values", values, persistent=False)
        self.register_buffer("t_values", values[t_order.as_subclass(Tensor)], persistent=False)

    def scaled(self, row_scale: Tensor) -> "SparseMatrix":
        """A new matrix diag(row_scale) A; `row_scale` is `[R]`."""
        counts = (self.rows[1:] - self.rows[:-1]).long()
        entry_rows = torch.repeat_interleave(torch.arange(self.size[0], device=counts.device), counts)
        return SparseMatrix(entry_rows, self.cols, self.values * row_scale[entry_rows], self.size)

    def forward(self, x: Tensor) -> Tensor:
        """`A x`: `[C, d]` to `[R, d]`."""
        product: Tensor = _Product.apply(x, self, False)
        return product

    def __matmul__(self, x: Tensor) -> Tensor:
        """`A @ x`, same as calling."""
        return self(x)  # type: ignore[no-any-return]

    def transposed(self, y: Tensor) -> Tensor:
        """`A' y`: `[R, d]` to `[C, d]`."""
        product: Tensor = _Product.apply(y, self, True)
        return product

    def times(self, x: Tensor) -> Tensor:
        """`A x` without autograd."""
        return compressed_product(self.rows, self.cols, self.values, self.size, x)

    def times_transposed(self, y: Tensor) -> Tensor:
        """`A' y` without autograd."""
        return compressed_product(self.t_rows, self.t_cols, self.t_values, (self.size[1], self.size[0]), y)

    def extra_repr(self) -> str:
        """Size and number of entries."""
        return f"{self.size[0]} x {self.size[1]}, {len(self.values)} entries"


def compressed_product(
    starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int], x: Tensor
) -> Tensor:
    """A sparse matrix in compressed rows times dense `[C, d]` rows, without autograd.

    Args:
        starts: `[R + 1]` int32, where each row's entries begin.
        columns: `[E]` int32; a column may stand twice in a row.
        values: `[E]`.
        size: `(R, C)`.
        x: `[C, d]`.

    Returns:
        `[R, d]`.
    """
    matrix = torch.sparse_csr_tensor(starts, columns, values, size, check_invariants=False)
    if x.is_cuda:
        return matrix @ x
    # The row-wise kernel was measured faster than `@`, which converts the matrix for MKL at every call.
    product: Tensor = torch.sparse.mm(matrix, x.contiguous(), "sum")
    return product


class _Product(torch.autograd.Function):
    """A x, or A' x when transposed; the gradient is the other one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: SparseMatrix, transposed: bool) -> Tensor:
        ctx.back = matrix.times if transposed else matrix.times_transposed
        return matrix.times_transposed(x) if transposed else matrix.times(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(gradients[0]), None, None
