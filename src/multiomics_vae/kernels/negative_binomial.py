"""Overdispersed counts: the negative binomial log likelihood fused with its output layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from multiomics_vae.errors import InputError
from multiomics_vae.kernels.chunked_entries import ChunkedEntries
from multiomics_vae.kernels.elementwise import ElementwiseKernel, NonzeroTerms
from multiomics_vae.kernels.fused import LogLikelihood, fused_log_likelihood
from multiomics_vae.kernels.options import ChunkOptions
from multiomics_vae.kernels.rising_factorial import log_rising_factorial
from multiomics_vae.kernels.sparse_rows import SparseRows

if TYPE_CHECKING:
    from multiomics_vae.kernels.compiled.loop import CompiledInputs, CompiledLoop


class NegativeBinomialKernel(ElementwiseKernel):
    """Cost of mean μ and inverse dispersion θ: θ log(1 + μ/θ) at 0.

    A count x > 0 adds x log(1 + θ/μ) − log Γ(x + θ) + log Γ(θ) + log x!. By log μ the slopes are
    μ/(1 + μ/θ), and added −x θ/(θ + μ).
    """

    normalised = True
    has_dispersion = True
    is_compiled = True

    def zero_slope(self, argument: Tensor, dispersion: Tensor | None, out: Tensor) -> None:
        torch.div(argument, _given(dispersion), out=out)
        out.add_(1.0)
        torch.div(argument, out, out=out)

    def zero_cost(self, argument: Tensor, dispersion: Tensor | None, out: Tensor) -> None:
        theta = _given(dispersion)
        torch.div(argument, theta, out=out)
        out.log1p_().mul_(theta)

    def zero_log_dispersion_slope(self, argument: Tensor, slope: Tensor, cost: Tensor) -> None:
        # θ log(1 + μ/θ) scales with (μ, θ) together, so its slopes by log μ and log θ add up to itself.
        cost.sub_(slope)

    def nonzero_terms(self, argument: Tensor, values: Tensor, dispersion: Tensor | None) -> NonzeroTerms:
        theta = _given(dispersion)
        log_ratio = argument - theta.log()  # (k,)
        pull = values * torch.sigmoid(-log_ratio)  # (k,)
        rising, rising_slope = log_rising_factorial(values, theta)  # (k,)
        cost = torch.lgamma(values + 1.0) - rising - values * functional.logsigmoid(log_ratio)  # (k,)
        return NonzeroTerms(cost=cost, slope=-pull, log_dispersion_slope=pull - rising_slope)

    def compiled_loop(self, inputs: CompiledInputs) -> CompiledLoop:
        from multiomics_vae.kernels.compiled.negative_binomial_loop import NegativeBinomialLoop

        return NegativeBinomialLoop(inputs)


def _given(dispersion: Tensor | None) -> Tensor:
    if dispersion is None:
        raise InputError("The negative binomial needs its inverse dispersion: give log_dispersion=...")
    return dispersion


def negative_binomial_log_likelihood(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    data: SparseRows | ChunkedEntries,
    depth: Tensor,
    log_dispersion: Tensor,
    *,
    batch: Tensor | None = None,
    cell_weights: Tensor | None = None,
    options: ChunkOptions | None = None,
) -> LogLikelihood:
    """Σ_i w_i Σ_f log NB(x_if | mean μ_if, inverse dispersion θ_f), μ_i = depth_i · softmax(W h_i + b).

    log p = log Γ(x + θ) − log Γ(θ) − log x! + θ log(θ/(θ + μ)) + x log(μ/(θ + μ)), the variance being
    μ + μ²/θ. Gamma functions are needed at the stored entries only.

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
    log_dispersion
        log θ, ``(F,)`` or ``(n_batches, F)``; differentiable.
    batch
        Row of ``log_dispersion`` that each cell reads, ``(B,)``, int64; None for the only one.
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
    >>> negative_binomial_log_likelihood(
    ...     torch.zeros(1, 3), torch.zeros(2, 3), torch.zeros(2), data, torch.tensor([2.0]), torch.zeros(2)
    ... ).total  # two geometric counts: log ½ + log ¼
    tensor(-2.0794)
    """
    return fused_log_likelihood(
        NegativeBinomialKernel(),
        hidden,
        weight,
        bias,
        data,
        depth=depth,
        log_dispersion=log_dispersion,
        batch=batch,
        cell_weights=cell_weights,
        options=options,
    )
