"""Counts without overdispersion: the Poisson log likelihood fused with its output layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from multiomics_vae.kernels.chunked_entries import ChunkedEntries
from multiomics_vae.kernels.elementwise import ElementwiseKernel, NonzeroTerms, ZeroTotals
from multiomics_vae.kernels.fused import LogLikelihood, fused_log_likelihood
from multiomics_vae.kernels.options import ChunkOptions
from multiomics_vae.kernels.sparse_rows import SparseRows

if TYPE_CHECKING:
    from multiomics_vae.kernels.compiled.loop import CompiledInputs, CompiledLoop


class PoissonKernel(ElementwiseKernel):
    """Cost μ − x log μ + log x! with slope μ − x by log μ; the means of a cell add up to its depth."""

    normalised = True
    is_compiled = True

    def zero_slope(self, argument: Tensor, dispersion: Tensor | None, out: Tensor) -> None:
        out.copy_(argument)

    def zero_cost(self, argument: Tensor, dispersion: Tensor | None, out: Tensor) -> None:
        out.copy_(argument)

    def zero_totals(self, depth: Tensor) -> ZeroTotals:
        return ZeroTotals(cost=depth, slope=depth)

    def nonzero_terms(self, argument: Tensor, values: Tensor, dispersion: Tensor | None) -> NonzeroTerms:
        return NonzeroTerms(cost=torch.lgamma(values + 1.0) - values * argument, slope=-values)

    def compiled_loop(self, inputs: CompiledInputs) -> CompiledLoop:
        from multiomics_vae.kernels.compiled.poisson_loop import PoissonLoop

        return PoissonLoop(inputs)


def poisson_log_likelihood(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    data: SparseRows | ChunkedEntries,
    depth: Tensor,
    *,
    cell_weights: Tensor | None = None,
    options: ChunkOptions | None = None,
) -> LogLikelihood:
    """Σ_i w_i Σ_f log Poisson(x_if | μ_if), μ_i = depth_i · softmax(W h_i + b).

    log p = x log μ − μ − log x!. One pass finds the normaliser of each cell; as Σ_f μ = depth, only
    the gradients need a second one.

    Parameters
    ----------
    hidden
        h, ``(B, H)``, float32 or float64; differentiable.
    weight, bias
        W ``(F, H)`` and b ``(F,)``, of the same type; differentiable.
    data
        Counts, B rows of F features, or the same already sorted by chunk.
    depth
        Positive, ``(B,)``, not differentiated.
    cell_weights
        w, ``(B,)``, not differentiated; None for 1.
    options
        Chunk size, memory, precision of products; None for the defaults.

    Returns
    -------
    LogLikelihood
        The weighted total, differentiable, and the unweighted value of each cell.

    Raises
    ------
    InputError
        If shapes, types or devices do not fit together.

    Examples
    --------
    >>> data = SparseRows.from_dense(torch.tensor([[0.0, 1.0]]))
    >>> poisson_log_likelihood(
    ...     torch.zeros(1, 3), torch.zeros(2, 3), torch.zeros(2), data, depth=torch.tensor([2.0])
    ... ).total
    tensor(-2.)
    """
    return fused_log_likelihood(
        PoissonKernel(), hidden, weight, bias, data, depth=depth, cell_weights=cell_weights, options=options
    )
