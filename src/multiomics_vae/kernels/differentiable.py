"""A fused log likelihood as an operation of autograd, which computes its gradients on the way forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from multiomics_vae.errors import MultiomicsError
from multiomics_vae.kernels.chunked import ChunkLoop, Costs
from multiomics_vae.kernels.chunked_entries import ChunkedEntries
from multiomics_vae.kernels.dispersion_table import DispersionTable
from multiomics_vae.kernels.drawn_features import DrawnFeatures
from multiomics_vae.kernels.elementwise import ElementwiseKernel
from multiomics_vae.kernels.options import ChunkOptions
from multiomics_vae.kernels.output_layer import OutputLayer, Wanted

# Below, a chunk costs less than calling a compiled loop, and less still than compiling it.
FEWEST_COMPILED_ENTRIES = 2**17
PROPORTION_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Problem:
    """All that is not differentiated, of S draws of B cells in R = S · B rows.

    Parameters
    ----------
    kernel, options, wanted
        What is computed, how, and which gradients.
    chunked
        The observations of the B cells.
    depth, batch
        ``(R,)``, or None.
    cell_weights
        w, ``(R,)``; None for 1.
    upstream
        Gradient of the loss by the total of each draw, as it will come in the backward pass up to one
        factor that all draws share.
    teaches_dispersion
        Whether the gradient by the dispersion takes a draw in; None if it takes all.
    is_whole
        Whether these are all the draws that the weight learns from; else others add to its gradient.
    drawn
        What the F features were drawn from and stand for; None if they are all there are.
    """

    kernel: ElementwiseKernel
    chunked: ChunkedEntries
    depth: Tensor | None
    batch: Tensor | None
    cell_weights: Tensor | None
    upstream: tuple[float, ...]
    teaches_dispersion: tuple[bool, ...] | None
    is_whole: bool
    options: ChunkOptions
    wanted: Wanted
    drawn: DrawnFeatures | None = None

    def solve(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        offset: Tensor | None,
        log_dispersion: Tensor | None,
    ) -> Costs:
        """Costs of the rows, and gradients of the loss."""
        # The products have a type of their own choice; an outer autocast must not change it.
        with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
            options, wanted, weights = self.options, self.wanted, self._cost_weights(hidden)
            size, low = self.chunked.chunk_size, options.product_dtype
            # A sum of rounded gradients would be rounded again.
            kept = gradient_dtype(weight) if low is not None and self.is_whole else None
            layer = OutputLayer(hidden, weight, bias, offset, weights, size, low, wanted, kept)
            if is_compiled(self.kernel, hidden, weight, log_dispersion, options):
                from multiomics_vae.kernels.compiled.loop import CompiledInputs

                dispersion = taught = None
                if log_dispersion is not None:
                    dispersion = log_dispersion.view(-1)  # (F,)
                    taught = self._dispersion_weights(hidden, weights)  # (R,)
                data, depth = self.chunked.data, self.depth
                inputs = CompiledInputs(layer, data, depth, dispersion, taught, wanted, options, self.drawn)
                return self.kernel.compiled_loop(inputs).run()
            table = None
            if log_dispersion is not None:
                each = self._dispersion_weights(hidden, weights)  # (R,)
                rows = log_dispersion.reshape(-1, weight.shape[0])  # (n_batches, F)
                batch = None if len(rows) == 1 else self.batch
                table = DispersionTable(rows, batch, each, size, wanted.log_dispersion)
            budget = options.memory_budget
            return ChunkLoop(
                self.kernel, layer, self.chunked, table, self.depth, wanted, budget, self.drawn
            ).run()

    def _cost_weights(self, hidden: Tensor) -> Tensor | None:
        if self.cell_weights is None and self.upstream == (-1.0,):
            return None
        factors = hidden.new_tensor(self.upstream).neg_().unsqueeze(1)  # (S, 1)
        if self.cell_weights is None:
            return factors.expand(-1, len(hidden) // len(factors)).reshape(-1)  # (R,)
        return (self.cell_weights.view(len(factors), -1) * factors).view(-1)  # (R,)

    def _dispersion_weights(self, hidden: Tensor, weights: Tensor | None) -> Tensor:
        """Weights of the rows in the gradient by the dispersion, ``(R,)``."""
        each = hidden.new_ones(len(hidden)) if weights is None else weights  # (R,)
        if self.teaches_dispersion is None or all(self.teaches_dispersion):
            return each
        taught = torch.tensor(self.teaches_dispersion, device=each.device).unsqueeze(1)  # (S, 1)
        return (each.view(len(taught), -1) * taught).view(-1)

    def totals(self, per_row: Tensor) -> Tensor:
        """Weighted sums over the cells of each draw, ``(S,)``, of ``(R,)`` values."""
        weighted = per_row if self.cell_weights is None else per_row * self.cell_weights
        return weighted.view(len(self.upstream), -1).sum(1)

    def factor(self, upstream: Tensor) -> float | Tensor:
        """By what the gradients are multiplied, given the gradient that came for the totals, ``(S,)``.

        Raises
        ------
        MultiomicsError
            If the loss weighs the draws otherwise than was said.
        """
        if len(self.upstream) == 1 and upstream.device.type != "cpu":
            return upstream[0] / self.upstream[0]  # looking at it would wait for the device
        found = upstream.tolist()
        largest = max(range(len(found)), key=lambda s: abs(self.upstream[s]))
        known = self.upstream[largest]
        factor: float = found[largest] / known if known else 1.0
        allowed = PROPORTION_TOLERANCE * abs(found[largest])
        if any(abs(a - factor * b) > allowed for a, b in zip(found, self.upstream, strict=True)):
            raise MultiomicsError(
                f"The gradient of the loss by the totals is {found}, and no multiple of {self.upstream}, for "
                f"which gradients were computed: fused_log_likelihoods(..., upstream={tuple(found)})"
            )
        return factor


def gradient_dtype(weight: Tensor) -> torch.dtype:
    """The type in which a weight takes its gradient: its own, unless its optimiser said otherwise."""
    found: torch.dtype = getattr(weight, "grad_dtype", weight.dtype) if weight.is_leaf else weight.dtype
    return found


def is_compiled(
    kernel: ElementwiseKernel,
    hidden: Tensor,
    weight: Tensor,
    log_dispersion: Tensor | None,
    options: ChunkOptions,
) -> bool:
    """Whether a compiled loop does it: float32 on a processor, one dispersion a feature, enough to do."""
    if not kernel.is_compiled or options.compiled is False:
        return False
    if hidden.device.type != "cpu" or hidden.dtype != torch.float32:
        return False
    if log_dispersion is not None and log_dispersion.numel() != len(weight):
        return False
    return options.compiled is True or len(hidden) * len(weight) >= FEWEST_COMPILED_ENTRIES


class FusedLogLikelihood(torch.autograd.Function):
    """Computes the gradients on the way forward; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        problem: Problem,
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
        ctx.gradients = (costs.hidden, costs.weight, costs.bias, costs.offset, by_log_dispersion)
        ctx.problem = problem
        per_row = (-costs.per_cell).to(hidden.dtype)  # (R,)
        ctx.mark_non_differentiable(per_row)
        return problem.totals(-costs.per_cell).to(hidden.dtype), per_row

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients: tuple[Tensor | None, ...] | None = ctx.gradients
        if gradients is None:
            raise MultiomicsError(
                "The gradients of this fused log likelihood were handed over by an earlier backward pass. "
                "To go backward more than once: options=ChunkOptions(allow_repeated_backward=True)"
            )
        factor = ctx.problem.factor(upstream)
        if ctx.problem.options.allow_repeated_backward:
            return (None, *(None if g is None else g * factor for g in gradients))
        ctx.gradients = None
        # Scaling would read and write the widest matrix of the model once more.
        if isinstance(factor, Tensor) or factor != 1.0:
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(factor)
        return (None, *gradients)
