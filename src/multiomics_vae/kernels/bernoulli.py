"""Open or closed: the Bernoulli log likelihood fused with its output layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from multiomics_vae.kernels.chunked_entries import ChunkedEntries
from multiomics_vae.kernels.elementwise import ElementwiseKernel, NonzeroTerms
from multiomics_vae.kernels.fused import LogLikelihood, fused_log_likelihood
from multiomics_vae.kernels.options import ChunkOptions
from multiomics_vae.kernels.sparse_rows import SparseRows

if TYPE_CHECKING:
    from multiomics_vae.kernels.compiled.loop import CompiledInputs, CompiledLoop

# Above it softplus(l) = l to the last digit of float64, below it exp(l) is finite in float32.
SOFTPLUS_IS_LINEAR_FROM = 50.0
# Powers of 2 are several times faster than exp in PyTorch on processors.
LOG2_E = 1.0 / math.log(2.0)
HALVINGS = 3


class BernoulliKernel(ElementwiseKernel):
    """Cost softplus(l) − [x > 0] l with slope σ(l) − [x > 0]."""

    normalised = False
    is_compiled = True

    def zero_slope(self, argument: Tensor, dispersion: Tensor | None, out: Tensor) -> None:
        torch.sigmoid(argument, out=out)

    def zero_cost(self, argument: Tensor, dispersion: Tensor | None, out: Tensor) -> None:
        torch.ops.aten.softplus.out(argument, 1.0, SOFTPLUS_IS_LINEAR_FROM, out=out)

    def zero_cost_sums(self, argument: Tensor, dispersion: Tensor | None, out: Tensor) -> Tensor:
        if argument.device.type != "cpu":
            return super().zero_cost_sums(argument, dispersion, out)
        # softplus(l) = max(l, 0) + log(1 + u) with u = exp(−|l|), and on a processor one logarithm costs
        # more than ten products: log Π (1 + u) of 8 features at a time, at most 8 log 2. The product less
        # 1 is what is kept, u + v + uv, so that small terms lose no digits.
        total = torch.clamp(argument, min=0.0, out=out).sum(0)  # (B,)
        torch.abs(argument, out=out).mul_(-LOG2_E).exp2_()  # (n, B)
        for _ in range(HALVINGS):
            half = (len(out) + 1) // 2
            one, other = out[: len(out) - half], out[half:]
            one.addcmul_(one, other).add_(other)
            out = out[:half]
        return total.add_(out.log1p_().sum(0))

    def nonzero_terms(self, argument: Tensor, values: Tensor, dispersion: Tensor | None) -> NonzeroTerms:
        slope = -(values > 0).to(argument.dtype)  # (k,)
        return NonzeroTerms(cost=slope * argument, slope=slope)

    def compiled_loop(self, inputs: CompiledInputs) -> CompiledLoop:
        from multiomics_vae.kernels.compiled.bernoulli_loop import BernoulliLoop

        return BernoulliLoop(inputs)


def bernoulli_log_likelihood(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    data: SparseRows | ChunkedEntries,
    *,
    offset: Tensor | None = None,
    cell_weights: Tensor | None = None,
    options: ChunkOptions | None = None,
) -> LogLikelihood:
    """Σ_i w_i Σ_f log Bernoulli([x_if > 0] | logit l_if = h_i · W_f + b_f + o_i).

    Value and gradients are computed together, in one pass over chunks of features;
    log p = [x > 0] l − log(1 + exp l).

    Parameters
    ----------
    hidden
        h, ``(B, H)``, float32 or float64; differentiable.
    weight, bias
        W ``(F, H)`` and b ``(F,)``, of the same type; differentiable.
    data
        B rows of F features, or the same already sorted by chunk.
    offset
        o, ``(B,)``, such as γ (log depth − mean log depth); differentiable; None for 0.
    cell_weights
        w, ``(B,)``, not differentiated; None for 1.
    options
        Chunk size, precision of products; None for the defaults.

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
    >>> bernoulli_log_likelihood(torch.zeros(1, 3), torch.zeros(2, 3), torch.zeros(2), data).total
    tensor(-1.3863)
    """
    return fused_log_likelihood(
        BernoulliKernel(),
        hidden,
        weight,
        bias,
        data,
        offset=offset,
        cell_weights=cell_weights,
        options=options,
    )
