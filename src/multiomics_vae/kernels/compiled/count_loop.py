"""The compiled loop of counts whose means are shares of a depth; a subclass adds the costs."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from multiomics_vae.kernels.allocation import empty_buffer
from multiomics_vae.kernels.compiled.loop import CompiledInputs, CompiledLoop, Floats, Sums
from multiomics_vae.kernels.compiled.normaliser import (
    logits_of_block,
    means_of_block,
    slopes_of_block,
    take_in_block,
)


class CountLoop(CompiledLoop):
    """Three passes over the chunks, as in `ChunkLoop`: normalisers, costs, gradients; abstract.

    The logits of all features are held from pass to pass within the memory budget, else computed again.
    A subclass fills ``entry_slopes``, what stored entries add to the slopes by the log mean,
    ``(R / B, nnz)``, and gives ``inverse_dispersion``, ``(F,)``.
    """

    inverse_dispersion: Floats

    def __init__(self, inputs: CompiledInputs) -> None:
        super().__init__(inputs)
        assert inputs.depth is not None
        self.depth: Floats = inputs.depth.numpy()
        like = inputs.layer.weight
        n_bytes = like.dtype.itemsize * self.n_features * self.n_rows
        self._holds = n_bytes <= inputs.options.memory_budget
        n_held = self.n_features if self._holds else self.chunk_size
        self._held: Floats = empty_buffer((n_held, self.n_rows), like).detach().numpy()
        n_repeats = self.n_rows // inputs.data.n_cells
        self.entry_slopes: Floats = np.empty((n_repeats, len(self.values)), np.float32)
        self.highest: Floats = np.empty(0, np.float32)
        self.rest: Floats = np.empty(0, np.float32)

    @abstractmethod
    def _add_costs(self, thread: int, here: slice, logits: Floats, slope_sum: Sums) -> None:
        """Add the costs of some features, and Σ of their slopes by the log mean; leave means behind."""

    def _run(self) -> None:
        self._normalise()
        slope_sum = np.zeros_like(self.cost)  # (T, R)
        for features in self.chunks:
            self._cost_chunk(features, slope_sum)
        if self.wanted.layer:
            share_slope = (-slope_sum.sum(0) / self.depth).astype(np.float32)  # (R,)
            for features in self.chunks:
                self._add_gradient(features, share_slope)

    def _normalise(self) -> None:
        """Pass 1: highest logit of each row, and log depth − log Σ exp(l − highest)."""
        highest = np.full(self.cost.shape, -np.inf, np.float32)  # (T, R)
        total = np.zeros(self.cost.shape)  # (T, R)
        for features in self.chunks:
            self._take_in_chunk(features, highest, total)
        self.highest = highest.max(0)
        with np.errstate(invalid="ignore"):  # of infinite logits, which make the cost not-a-number
            total = (total * np.exp(highest - self.highest)).sum(0)  # (R,)
            self.rest = (np.log(self.depth) - np.log(total)).astype(np.float32)

    def _take_in_chunk(self, features: slice, highest: Floats, total: Sums) -> None:
        products, logits = self.product(features), self._place(features)  # (n, R)
        bias = self.bias[features]

        def take_in(thread: int, low: int, high: int) -> None:
            take_in_block(
                products[low:high], bias[low:high], highest[thread], total[thread], logits[low:high]
            )

        self.blocks.each(len(logits), take_in)

    def _cost_chunk(self, features: slice, slope_sum: Sums) -> None:
        logits = self._logits(features)  # (n, R)

        def cost(thread: int, low: int, high: int) -> None:
            here = slice(features.start + low, features.start + high)
            self._add_costs(thread, here, logits[low:high], slope_sum[thread])

        self.blocks.each(len(logits), cost)

    def _place(self, features: slice) -> Floats:
        """Where the logits or means of some features are kept, ``(n, R)``."""
        return self._held[features] if self._holds else self._held[: features.stop - features.start]

    def _logits(self, features: slice) -> Floats:
        """Logits of some features, held or computed again, ``(n, R)``."""
        logits = self._place(features)
        if not self._holds:
            logits_of_block(self.product(features), self.bias[features], logits)
        return logits

    def _add_gradient(self, features: slice, share_slope: Floats) -> None:
        means = self._logits(features)  # (n, R)
        if not self._holds:
            means_of_block(means, self.highest, self.rest)
        slopes = self.buffer(features)  # (n, R)

        def write(thread: int, low: int, high: int) -> None:
            here = slice(features.start + low, features.start + high)
            slopes_of_block(
                means[low:high],
                self.inverse_dispersion[here],
                share_slope,
                self.weights,
                self.pointers,
                self.columns,
                self.entry_slopes,
                here.start,
                slopes[low:high],
                self.bias_slope[here],
            )

        self.blocks.each(len(means), write)
        self.add_slopes(features)
