"""A linear layer that reads sparse rows, chunk by chunk of their features, in threads that work alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from multiomics_vae.kernels.allocation import empty_buffer
from multiomics_vae.kernels.differentiable import FEWEST_COMPILED_ENTRIES, gradient_dtype
from multiomics_vae.kernels.options import even_chunk_size
from multiomics_vae.kernels.products import product_with_transposed
from multiomics_vae.kernels.rounded_copy import RoundedCopy
from multiomics_vae.kernels.sparse_rows import SparseRows

BYTES_IN_BLOCK = 2**20  # of a dense block, which is to stay in the cache of a processor's core
FEATURES_IN_CHUNK = (512, 4096)  # at least and at most
MOST_BYTES_KEPT = 2**24  # of dense blocks in bfloat16, from the forward to the backward pass


def is_wide(rows: SparseRows, weight: Tensor) -> bool:
    """Whether `sparse_linear` is worth it: float32 on a processor, and enough to do."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or rows.values.dtype != torch.float32:
        return False
    return rows.n_cells * rows.n_features >= FEWEST_COMPILED_ENTRIES


def sparse_linear(
    rows: SparseRows,
    beside: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    product_dtype: torch.dtype | None = None,
) -> Tensor:
    """[X, C] Wᵀ + b, without X as a dense tensor.

    Parameters
    ----------
    rows
        X, ``(B, F)``, float32 on a processor; without gradient.
    beside
        C, further inputs, ``(B, D)``, without gradient; None for none.
    weight, bias
        W ``(H, F + D)`` and b ``(H,)``; differentiable once.
    product_dtype
        Type that X and its part of W are rounded to, float32 or bfloat16. None is bfloat16 where PyTorch is
        told to multiply float32 matrices in it (``torch.backends.mkldnn.matmul.fp32_precision``), else
        float32.

    Returns
    -------
    Tensor
        ``(B, H)``. The same for any number of threads.

    Examples
    --------
    >>> rows = SparseRows.from_dense(torch.tensor([[0.0, 2.0, 3.0]]))
    >>> sparse_linear(rows, None, torch.ones(1, 3), torch.zeros(1))
    tensor([[5.]])
    """
    found: Tensor = _SparseLinear.apply(rows, beside, weight, bias, product_dtype or _usual_dtype())  # type: ignore[no-untyped-call]
    return found


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: SparseRows,
        beside: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        rounded = RoundedCopy.of(weight) if dtype == torch.bfloat16 else None  # (H, F + D)
        kept = gradient_dtype(weight) if dtype == torch.bfloat16 else weight.dtype
        weight = weight.detach()
        factors = weight if rounded is None else rounded
        ctx.rows, ctx.beside, ctx.shape, ctx.dtype = rows, beside, tuple(weight.shape), dtype
        ctx.kept = kept
        ctx.blocks = blocks = _DenseBlocks(rows, dtype, keeps=ctx.needs_input_grad[2])
        # Kept by chunk: their order must not depend on threads.
        parts = weight.new_empty(len(blocks.chunks), rows.n_cells, len(weight), dtype=dtype)  # (chunks, B, H)

        def multiply(block: Tensor, chunk: int, features: slice) -> None:
            if dtype == torch.float32:
                product_with_transposed(block, weight[:, features], parts[chunk])
            else:
                torch.mm(block, factors[:, features].to(dtype).t(), out=parts[chunk])

        blocks.each(multiply)
        found = parts.sum(0, dtype=torch.float32) + bias  # (B, H)
        if beside is not None:
            found += beside @ weight[:, rows.n_features :].t()
        return found

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        rows, beside, dtype = ctx.rows, ctx.beside, ctx.dtype
        by_weight = None
        if ctx.needs_input_grad[2]:
            like = upstream.new_empty(0, dtype=ctx.kept)
            gradient = by_weight = empty_buffer(ctx.shape, like)  # (H, F + D)
            columns = upstream.t().to(dtype).contiguous()  # (H, B)

            def multiply(block: Tensor, chunk: int, features: slice) -> None:
                if dtype == torch.float32:
                    product_with_transposed(columns, block.t(), gradient[:, features])
                elif gradient.dtype == dtype:
                    torch.mm(columns, block, out=gradient[:, features])
                else:
                    gradient[:, features] = torch.mm(columns, block)

            ctx.blocks.each(multiply)
            ctx.blocks.drop()
            if beside is not None:
                gradient[:, rows.n_features :] = upstream.t() @ beside
        return None, None, by_weight, upstream.sum(0) if ctx.needs_input_grad[3] else None, None


def _usual_dtype() -> torch.dtype:
    low = torch.backends.mkldnn.matmul.fp32_precision == "bf16"  # type: ignore[attr-defined]
    return torch.bfloat16 if low else torch.float32


class _DenseBlocks:
    """The rows as dense blocks, one for every chunk of features.

    Parameters
    ----------
    rows
        X, ``(B, F)``.
    dtype
        Of the blocks.
    keeps
        Whether to keep the blocks for another walk, if they are small enough; reading float32 blocks again
        would take as long as filling them again.
    """

    def __init__(self, rows: SparseRows, dtype: torch.dtype, keeps: bool) -> None:
        self.rows, self.dtype = rows, dtype
        fewest, most = FEATURES_IN_CHUNK
        size = min(max(BYTES_IN_BLOCK // max(1, rows.n_cells * dtype.itemsize), fewest), most)
        size = even_chunk_size(rows.n_features, size)
        self.chunks = tuple(
            slice(low, min(low + size, rows.n_features)) for low in range(0, rows.n_features, size)
        )
        n_bytes = rows.n_features * rows.n_cells * dtype.itemsize
        self._keeps = keeps and dtype == torch.bfloat16 and n_bytes <= MOST_BYTES_KEPT
        self._kept: Tensor | None = None  # all blocks, one after the other

    def each(self, work: Callable[[Tensor, int, slice], None]) -> None:
        """Call ``work(block, chunk, features)`` with the dense block ``(B, n)`` of each chunk of features."""
        # Imported here, because the compiler loads slowly.
        from multiomics_vae.kernels.compiled.blocks import Blocks
        from multiomics_vae.kernels.compiled.entries import fill_block

        rows, kept, n_cells = self.rows, self._kept, self.rows.n_cells
        arrays = (rows.row_pointers.numpy(), rows.columns.numpy(), rows.values.numpy())
        like = rows.values.new_empty(0, dtype=self.dtype)
        is_filled = kept is not None
        if kept is None and self._keeps:
            kept = empty_buffer((rows.n_features * n_cells,), like)
        with Blocks() as blocks:
            n_rooms = blocks.n_threads if kept is None else 0
            size = self.chunks[0].stop * n_cells
            rooms = [like.new_empty(size) for _ in range(n_rooms)]

            def walk(thread: int, chunk: int) -> None:
                features = self.chunks[chunk]
                start, n = features.start * n_cells, features.stop - features.start
                room = rooms[thread] if kept is None else kept[start:]
                block = room[: n_cells * n].view(n_cells, n)
                if not is_filled:
                    memory = block.view(torch.uint16) if self.dtype == torch.bfloat16 else block
                    fill_block(*arrays, features.start, memory.numpy())
                work(block, chunk, features)

            blocks.each_one(len(self.chunks), walk)
        self._kept = kept

    def drop(self) -> None:
        """Keep nothing from now on."""
        self._kept, self._keeps = None, False
