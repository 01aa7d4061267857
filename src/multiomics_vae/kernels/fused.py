"""The fused log likelihoods as differentiable functions."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from multiomics_vae.errors import InputError
from multiomics_vae.kernels.checks import check_inputs
from multiomics_vae.kernels.chunked_entries import ChunkedEntries
from multiomics_vae.kernels.differentiable import FusedLogLikelihood, Problem, is_compiled
from multiomics_vae.kernels.drawn_features import DrawnFeatures
from multiomics_vae.kernels.elementwise import ElementwiseKernel
from multiomics_vae.kernels.options import ChunkOptions
from multiomics_vae.kernels.output_layer import Wanted
from multiomics_vae.kernels.sparse_rows import SparseRows

MOST_ROWS = 2048  # of draws and cells in one pass; more take more memory and save nothing


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


class LogLikelihoods(NamedTuple):
    """Log likelihood of B cells given each of S hidden layers.

    Parameters
    ----------
    totals
        Σ_i w_si log p(x_i | s), ``(S,)``, differentiable once.
    per_cell
        log p(x_i | s), unweighted, ``(S, B)``, without gradient.
    """

    totals: Tensor
    per_cell: Tensor


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
        ``(F,)`` or ``(n_batches, F)``, differentiable; needed if the kernel has a dispersion, else refused.
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
    found = fused_log_likelihoods(
        kernel,
        hidden.unsqueeze(0),
        weight,
        bias,
        data,
        depth=depth,
        offset=offset,
        log_dispersion=log_dispersion,
        batch=batch,
        cell_weights=None if cell_weights is None else cell_weights.unsqueeze(0),
        options=options,
    )
    return LogLikelihood(found.totals[0], found.per_cell[0])


def fused_log_likelihoods(
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
    upstream: tuple[float, ...] | None = None,
    teaches_dispersion: tuple[bool, ...] | None = None,
    options: ChunkOptions | None = None,
    drawn: DrawnFeatures | None = None,
) -> LogLikelihoods:
    """Do what `fused_log_likelihood` does at several hidden layers of the same cells, together.

    The draws of a step read the same weights and the same observations: together they need one walk over
    them and one gradient. Since gradients are computed on the way forward, it must be known there how the
    loss will weigh the totals.

    Parameters
    ----------
    kernel, weight, bias, data, depth, offset, log_dispersion, batch, options
        As for `fused_log_likelihood`.
    hidden
        ``(S, B, H)``, differentiable.
    cell_weights
        ``(S, B)``, not differentiated.
    upstream
        Gradient of the loss by each of the totals, up to one factor that they share; None for −1 each. If
        another one comes in the backward pass, it raises.
    teaches_dispersion
        Which of the totals the gradient by ``log_dispersion`` is of; None for all.
    drawn
        Where the F features were drawn to stand for more. Totals, values of cells and gradients are then
        unbiased estimates of those over all features; None for features that stand for themselves.

    Returns
    -------
    LogLikelihoods
        Totals and values of cells, in the type of ``hidden``.

    Raises
    ------
    InputError
        If shapes, types or devices do not fit together.

    Examples
    --------
    >>> data = SparseRows.from_dense(torch.tensor([[0.0, 1.0]]))
    >>> hidden, zeros = torch.zeros(2, 1, 3), torch.zeros(2)
    >>> fused_log_likelihoods(BernoulliKernel(), hidden, torch.zeros(2, 3), zeros, data).totals
    tensor([-1.3863, -1.3863])
    """
    n_draws = len(hidden)
    _check_drawn(kernel, drawn, weight)
    weights = None if cell_weights is None else cell_weights.detach().to(hidden.dtype)  # (S, B)
    for s in range(n_draws):
        each = None if weights is None else weights[s]
        check_inputs(kernel, hidden[s], weight, bias, data, depth, offset, log_dispersion, batch, each)
    options = options or ChunkOptions()
    chunked = data if isinstance(data, ChunkedEntries) else chunk_rows(data, hidden[0], options)
    chunked = _in_type(chunked, hidden.dtype)
    upstream = (-1.0,) * n_draws if upstream is None else upstream
    inputs = (hidden, weight, bias, offset, log_dispersion)
    is_on = torch.is_grad_enabled()
    wanted = Wanted(*(is_on and tensor is not None and tensor.requires_grad for tensor in inputs))
    together = 1
    # Settled once for all draws: a last group of few is walked through as the others are.
    options = replace(
        options, compiled=is_compiled(kernel, hidden.flatten(0, 1), weight, log_dispersion, options)
    )
    if options.compiled:
        together = max(1, MOST_ROWS // max(1, hidden.shape[1]))
    totals, per_cell = [], []
    for start in range(0, n_draws, together):
        here = slice(start, start + together)
        n_here = len(hidden[here])

        def repeated(of_cells: Tensor | None, n: int = n_here) -> Tensor | None:
            return of_cells if of_cells is None or n == 1 else of_cells.repeat(n)  # (R,)

        problem = Problem(
            kernel,
            chunked,
            repeated(None if depth is None else depth.detach().to(hidden.dtype)),
            repeated(batch),
            None if weights is None else weights[here].reshape(-1),
            upstream[here],
            None if teaches_dispersion is None else teaches_dispersion[here],
            together >= n_draws,
            options,
            wanted,
            drawn,
        )
        rows = hidden[here].flatten(0, 1)  # (R, H)
        found, each_row = FusedLogLikelihood.apply(  # type: ignore[no-untyped-call]
            problem, rows, weight, bias, repeated(offset), log_dispersion
        )
        totals.append(found)
        per_cell.append(each_row.view(n_here, -1))
    if len(totals) == 1:
        return LogLikelihoods(totals[0], per_cell[0])
    return LogLikelihoods(torch.cat(totals), torch.cat(per_cell))


def _check_drawn(kernel: ElementwiseKernel, drawn: DrawnFeatures | None, weight: Tensor) -> None:
    if drawn is None:
        return
    if kernel.normalised != (drawn.whole is not None):
        needs = (
            "needs the layer they were drawn from" if kernel.normalised else "has no shares among features"
        )
        mend = (
            "DrawnFeatures(chances, WholeLayer(weight, bias, count))" if kernel.normalised else "whole=None"
        )
        raise InputError(f"Of drawn features {type(kernel).__name__} {needs}: {mend}")
    if len(drawn.chances) != len(weight):
        raise InputError(
            f"drawn has the chances of {len(drawn.chances)} features, and weight has {len(weight)} rows. "
            "Give those of the drawn features: DrawnFeatures(sample.chances)"
        )


def chunk_rows(data: SparseRows, hidden: Tensor, options: ChunkOptions) -> ChunkedEntries:
    """Data to be sorted by chunk as the fused functions would, to share the work among several calls.

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
    return _in_type(ChunkedEntries(data, size), hidden.dtype)


def _in_type(chunked: ChunkedEntries, dtype: torch.dtype) -> ChunkedEntries:
    data = chunked.data
    if data.values.dtype == dtype:
        return chunked
    return ChunkedEntries(data.with_values(data.values.to(dtype)), chunked.chunk_size)
