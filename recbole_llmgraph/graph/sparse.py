"""A fixed sparse matrix times dense vectors, with the gradient by its kept transpose."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric import EdgeIndex

with warnings.catch_warnings():
    # PyTorch says once a process that compressed rows are "in beta"; said here, nobody has to read it.
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
    torch.eye(1).to_sparse_csr()


def distinct_pairs(rows: Tensor, cols: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pairs sorted by row, then column, each once; pairs that hold padding (id 0) are left out.

    Args:
        rows: `[E]` ids in `0 .. size[0]-1`.
        cols: `[E]` ids in `0 .. size[1]-1`.
        size: numbers of rows and columns, padding included.

    Raises:
        ValueError: an id outside its range, or lists of different lengths.
    """
    if rows.shape != cols.shape or rows.dim() != 1:
        raise ValueError(f"pairs need two lists of one length, not {list(rows.shape)} and {list(cols.shape)}")
    for name, ids, count in (("row", rows, size[0]), ("column", cols, size[1])):
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= count):
            raise ValueError(f"{name} ids must lie in 0 .. {count - 1}, not {int(ids.min())} .. {int(ids.max())}")
    real = (rows > 0) & (cols > 0)
    keys = torch.unique(rows[real].long() * size[1] + cols[real].long())
    return keys // size[1], keys % size[1]


def _product(pointers: Tensor, indices: Tensor, values: Tensor, size: tuple[int, int], x: Tensor) -> Tensor:
    matrix = torch.sparse_csr_tensor(pointers, indices, values, size, check_invariants=False)
    if x.is_cuda:
        return matrix @ x
    # Row-wise kernel; measured faster than the general `@`, which prepares a library handle a call.
    return torch.sparse.mm(matrix, x, "sum")


class _Multiply(torch.autograd.Function):
    """y = A x; the gradient is A' of the gradient, both in compressed rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: "SparseMatrix") -> Tensor:
        ctx.matrix = matrix
        return matrix.times(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.matrix.transposed_times(gradients[0].contiguous()), None


class SparseMatrix(nn.Module):
    """Constant sparse `[R, C]` matrix; calling it multiplies dense `[C, d]` rows, exactly differentiable.

    `torch_geometric.EdgeIndex` sorts the entries and finds the compressed rows of the matrix and of
    its transpose; both are kept, so that forward and backward are one row-wise product each. (A
    product through `EdgeIndex.matmul` with values re-orders the values in every backward.) Buffers
    move with `.to(device)` and stay out of the state dict.
    """

    def __init__(self, rows: Tensor, cols: Tensor, values: Tensor, size: tuple[int, int]) -> None:
        """Args: `[E]` distinct positions, `[E]` values, and the size."""
        super().__init__()
        self.size = size
        index = EdgeIndex(torch.stack([rows, cols]).long(), sparse_size=size)
        index, order = index.sort_by("row", stable=True)
        values = values[order] if order is not None else values
        (pointers, indices), _ = index.get_csr()
        (t_pointers, t_indices), t_order = index.get_csc()
        # 32-bit ids halve the traffic; EdgeIndex itself is dropped, as its caches double the memory.
        for name, ids in (("rows", pointers), ("cols", indices), ("t_rows", t_pointers), ("t_cols", t_indices)):
            self.register_buffer(name, ids.as_subclass(Tensor).int(), persistent=False)
        self.register_buffer("values", values.contiguous(), persistent=False)
        self.register_buffer("t_values", values[t_order].contiguous(), persistent=False)

    rows: Tensor
    cols: Tensor
    values: Tensor
    t_rows: Tensor
    t_cols: Tensor
    t_values: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """`A x`: `[C, d]` to `[R, d]`."""
        product: Tensor = _Multiply.apply(x, self)
        return product

    def __matmul__(self, x: Tensor) -> Tensor:
        """`A @ x`, same as calling."""
        return self.forward(x)

    def times(self, x: Tensor) -> Tensor:
        """`A x` without autograd."""
        return _product(self.rows, self.cols, self.values, self.size, x)

    def transposed_times(self, y: Tensor) -> Tensor:
        """`A' y` without autograd: `[R, d]` to `[C, d]`."""
        return _product(self.t_rows, self.t_cols, self.t_values, (self.size[1], self.size[0]), y)

    def extra_repr(self) -> str:
        """Size and number of entries."""
        return f"{self.size[0]} x {self.size[1]}, {len(self.values)} entries"
