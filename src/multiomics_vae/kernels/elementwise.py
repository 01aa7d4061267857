"""What a likelihood supplies to be fused with its output layer: arithmetic of single entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

if TYPE_CHECKING:
    from multiomics_vae.kernels.compiled.loop import CompiledInputs, CompiledLoop


@dataclass(frozen=True)
class NonzeroTerms:
    """What k stored entries add to the terms they would have as zeros.

    Parameters
    ----------
    cost
        Added to −log p, ``(k,)``.
    slope
        Added to its derivative by the argument, ``(k,)``.
    log_dispersion_slope
        Added to its derivative by the log dispersion, ``(k,)``; None without a dispersion.
    """

    cost: Tensor
    slope: Tensor
    log_dispersion_slope: Tensor | None = None


@dataclass(frozen=True)
class ZeroTotals:
    """Sums over all features, as if every entry were 0, ``(B,)`` each."""

    cost: Tensor
    slope: Tensor


class ElementwiseKernel(ABC):
    """Cost −log p(x | a) and its slope by the argument ``a``: abstract, one subclass a file.

    Sparse data are mostly zeros, so the cost is split: the cost of 0 on every entry, in place and free
    of special functions, and a correction at the stored entries. Methods see a chunk of n features,
    features first: ``(n, B)``. They are pure arithmetic; chunks, sums, weights, matrix products and
    the chain rule belong to the loop.

    Class attributes
    ----------------
    normalised
        False: the argument is the logit, on the dense chunk and at the entries. True: the model is
        ``depth · softmax(logits)``; the dense chunk is the mean, the entries get its log, and slopes
        are by the log mean.
    has_dispersion
        True if the kernel reads a positive parameter of every feature. It is learned as its log.
    is_compiled
        True if `compiled_loop` gives a loop that does the same faster on a processor.
    """

    normalised: ClassVar[bool]
    has_dispersion: ClassVar[bool] = False
    is_compiled: ClassVar[bool] = False

    @abstractmethod
    def zero_slope(self, argument: Tensor, dispersion: Tensor | None, out: Tensor) -> None:
        """Write the slope of the cost of 0.

        Parameters
        ----------
        argument
            Logits or means, ``(n, B)``; left as it is.
        dispersion
            ``(n, 1)`` or ``(n, B)``; None without one.
        out
            Receives the result, ``(n, B)``.
        """

    @abstractmethod
    def zero_cost(self, argument: Tensor, dispersion: Tensor | None, out: Tensor) -> None:
        """Write the cost of 0; arguments as for `zero_slope`."""

    def zero_cost_sums(self, argument: Tensor, dispersion: Tensor | None, out: Tensor) -> Tensor:
        """Sums over the features of the chunk of the cost of 0, ``(B,)``; ``out`` is spoilt.

        To be overridden where the sum is cheaper than its terms.
        """
        self.zero_cost(argument, dispersion, out)
        return out.sum(0)

    @abstractmethod
    def nonzero_terms(self, argument: Tensor, values: Tensor, dispersion: Tensor | None) -> NonzeroTerms:
        """Return what stored entries add.

        Parameters
        ----------
        argument
            Logits or log means, ``(k,)``.
        values
            ``(k,)``.
        dispersion
            ``(k,)``; None without one.
        """

    def zero_log_dispersion_slope(self, argument: Tensor, slope: Tensor, cost: Tensor) -> None:
        """Turn ``cost`` in place into the derivative of the cost of 0 by the log dispersion, ``(n, B)``."""
        raise NotImplementedError(f"{type(self).__name__} has no dispersion")

    def zero_totals(self, depth: Tensor) -> ZeroTotals | None:
        """Sums over all features where they have a closed form, which saves a pass; else None.

        Not asked where a part of the features was drawn: the closed form is of all of them.

        Parameters
        ----------
        depth
            Sum of the means of each cell, ``(B,)``.
        """
        return None

    def compiled_loop(self, inputs: CompiledInputs) -> CompiledLoop:
        """The compiled loop that does the same; imported here, because its compiler loads slowly."""
        raise NotImplementedError(f"{type(self).__name__} has no compiled loop")
