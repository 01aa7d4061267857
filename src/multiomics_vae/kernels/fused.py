"""The fused log likelihoods as differentiable functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from multiomics_vae.errors import MultiomicsError
from multiomics_vae.kernels.checks import check_inputs
from multiomics_vae.kernels.chunked import ChunkLoop, Costs
from multiomics_vae.kernels.chunked_entries import ChunkedEntries, EntrySlice
from multiomics_vae.kernels.dispersion_table import DispersionTable
from multiomics_vae.kernels.elementwise import ElementwiseKernel
from multiomics_vae.kernels.options import ChunkOptions
from multiomics_vae.kernels.output_layer import OutputLayer, Wanted
from multiomics_vae.kernels.sparse_rows import SparseRows


class LogLikelihood(NamedTuple):
    """Log likelihood of B cells.

    Parameters
    ----------
    total
        Σ_i w_i log p(x_i), a scalar, differentiable once.
    per_cell
        log p(x_i), unweighted, ``(B,)``, without gradient.
    """

    total: Tensor
    per_cell: Tensor


@dataclass(frozen=True)
class _Problem:
    """All that is not differentiated."""

    kernel: ElementwiseKernel
    chunked: ChunkedEntries
    depth: Tensor | None
    batch: Tensor | None
    cell_weights: Tensor | None
    options: ChunkOptions
    wanted: Wanted

    def solve(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        offset: Tensor | None,
        log_dispersion: Tensor | None,
    ) -> Costs:
        # The products have a type of their own choice; an outer autocast must not change it.
        with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
            size = self.chunked.chunk_size
            table = None
            if log_dispersion is not None:
                weights = hidden.new_ones(len(hidden)) if self.cell_weights is None else self.cell_weights
                rows = log_dispersion.reshape(-1, weight.shape[0])  # (R, F)
                batch = None if len(rows) == 1 else self.batch
                table = DispersionTable(rows, batch, weights, size, self.wanted.log_dispersion)
            layer = OutputLayer(
                hidden, weight, bias, offset, self.cell_weights, size, self.options.product_dtype, self.wanted
            )
            return ChunkLoop(
                self.kernel,
                layer,
                self.chunked,
                table,
                self.depth,
                self.wanted,
                self.options.memory_budget,
            ).run()

    def total(self, per_cell: Tensor) -> Tensor:
        """Weighted sum of ``(B,)`` values."""
        if self.cell_weights is None:
            return per_cell.sum()
        return (per_cell * self.cell_weights).sum()


class _FusedLogLikelihood(torch.autograd.Function):
    """Computes the gradients on the way forward; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        problem: _Problem,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        offset: Tensor | None,
        log_dispersion: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        costs = problem.solve(hidden, weight, bias, offset, log_dispersion)
        by_log_dispersion = costs.log_dispersion
        if by_log_dispersion is not None and log_dispersion is not None:
            by_log_dispersion = by_log_dispersion.view(log_dispersion.shape)
        ctx.cost_gradients = (costs.hidden, costs.weight, costs.bias, costs.offset, by_log_dispersion)
        ctx.keeps = problem.options.allow_repeated_backward
        per_cell = (-costs.per_cell).to(hidden.dtype)  # (B,)
        ctx.mark_non_differentiable(per_cell)
        return (-problem.total(costs.per_cell)).to(hidden.dtype), per_cell

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients: tuple[Tensor | None, ...] | None = ctx.cost_gradients
        if gradients is None:
            raise MultiomicsError(
                "The gradients of this fused log likelihood were handed over by an earlier backward pass. "
                "To go backward more than once: options=ChunkOptions(allow_repeated_backward=True)"
            )
        if ctx.keeps:
            return (None, *(None if g is None else g * -upstream for g in gradients))
        ctx.cost_gradients = None
        # A loss is minus a log likelihood, so -1 is the usual factor, and looking at it is free on a
        # processor. Scaling would read and write the widest matrix of the model once more.
        if upstream.device.type != "cpu" or upstream.item() != -1.0:
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(-upstream)
        return (None, *gradients)


def fused_log_likelihood(
    kernel: ElementwiseKernel,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    data: SparseRows | ChunkedEntries,
    *,
    depth: Tensor | None = None,
    offset: Tensor | None = None,
    log_dispersion: Tensor | None = None,
    batch: Tensor | None = None,
    cell_weights: Tensor | None = None,
    options: ChunkOptions | None = None,
) -> LogLikelihood:
    """Run any kernel; the functions named after likelihoods say what the arguments mean.

    Parameters
    ----------
    kernel
        The likelihood's arithmetic.
    hidden, weight, bias
        ``(B, H)``, ``(F, H)``, ``(F,)``; differentiable.
    data
        The observations; `chunk_rows` sorts them once for several calls.
    depth
        ``(B,)``; needed by a normalised kernel, refused by another.
    offset
        ``(B,)``, differentiable; refused by a normalised kernel, where it would cancel.
    log_dispersion
        ``(F,)`` or ``(R, F)``, differentiable; needed if the kernel has a dispersion, else refused.
    batch
        ``(B,)``, int64; needed if there is more than one row of dispersions.
    cell_weights
        ``(B,)``, not differentiated.
    options
        None for the defaults.

    Returns
    -------
    LogLikelihood
        Total and values of cells, in the type of ``hidden``.

    Raises
    ------
    InputError
        If shapes, types or devices do not fit together.

    Examples
    --------
    >>> data = SparseRows.from_dense(torch.tensor([[0.0, 1.0]]))
    >>> zeros = torch.zeros(2)
    >>> fused_log_likelihood(BernoulliKernel(), torch.zeros(1, 3), torch.zeros(2, 3), zeros, data).total
    tensor(-1.3863)
    """
    check_inputs(kernel, hidden, weight, bias, data, depth, offset, log_dispersion, batch, cell_weights)
    options = options or ChunkOptions()
    chunked = data if isinstance(data, ChunkedEntries) else chunk_rows(data, hidden, options)
    chunked = _in_type(chunked, hidden.dtype)
    inputs = (hidden, weight, bias, offset, log_dispersion)
    is_on = torch.is_grad_enabled()
    wanted = Wanted(*(is_on and tensor is not None and tensor.requires_grad for tensor in inputs))
    problem = _Problem(
        kernel,
        chunked,
        None if depth is None else depth.detach().to(hidden.dtype),
        batch,
        None if cell_weights is None else cell_weights.detach().to(hidden.dtype),
        options,
        wanted,
    )
    total, per_cell = _FusedLogLikelihood.apply(problem, *inputs)  # type: ignore[no-untyped-call]
    return LogLikelihood(total, per_cell)


def chunk_rows(data: SparseRows, hidden: Tensor, options: ChunkOptions) -> ChunkedEntries:
    """Sort the data by chunk as the fused functions would, to share the work among several calls.

    Parameters
    ----------
    data
        The observations, ``(B, F)``.
    hidden
        Any ``(B, H)`` tensor of the type and device that will be used.
    options
        Those that will be used.

    Examples
    --------
    >>> data = SparseRows.from_dense(torch.tensor([[0.0, 1.0]]))
    >>> chunk_rows(data, torch.zeros(1, 3), ChunkOptions()).chunk_size
    8192
    """
    size = options.chunk_size_for(data.n_cells, hidden.dtype, hidden.device)
    return _in_type(ChunkedEntries.from_rows(data, size), hidden.dtype)


def _in_type(chunked: ChunkedEntries, dtype: torch.dtype) -> ChunkedEntries:
    entries = chunked.entries
    if entries.values.dtype == dtype:
        return chunked
    typed = EntrySlice(entries.rows, entries.columns, entries.values.to(dtype), entries.positions)
    return ChunkedEntries(typed, chunked.starts, chunked.chunk_size, chunked.n_cells, chunked.n_features)
