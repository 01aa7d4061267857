"""The compiled loop of counts whose means are shares of a depth; a subclass adds the costs."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from multiomics_vae.kernels.allocation import empty_buffer
from multiomics_vae.kernels.compiled.layer_part import LayerPart
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
        n_held = self.n_features if self._holds else 0
        self._held: Floats = empty_buffer((n_held, self.n_rows), like).detach().numpy()
        n_repeats = self.n_rows // inputs.data.n_cells
        self.entry_slopes: Floats = np.empty((n_repeats, len(self.values)), np.float32)
        self.highest: Floats = np.empty(0, np.float32)
        self.rest: Floats = np.empty(0, np.float32)

    @abstractmethod
    def _add_costs(self, features: slice, logits: Floats, cost: Sums, slope_sum: Sums) -> None:
        """Add the costs of some features, and Σ of their slopes by the log mean; leave means behind."""

    def _run(self) -> None:
        self._normalise()
        slope_sum = np.zeros_like(self.cost)  # (chunks, R)

        def add_costs(part: LayerPart, chunk: int, features: slice) -> None:
            logits = self._logits(part, features)  # (n, R)
            self._add_costs(features, logits, self.cost[chunk], slope_sum[chunk])

        self.each_chunk(add_costs)
        if not self.wanted.layer:
            return
        share_slope = (-slope_sum.sum(0) / self.depth).astype(np.float32)  # (R,)

        def add_gradient(part: LayerPart, chunk: int, features: slice) -> None:
            self._write_slopes(part, features, share_slope)
            self.add_slopes(part, chunk, features)

        self.each_chunk(add_gradient)

    def _normalise(self) -> None:
        """Pass 1: highest logit of each row, and log depth − log Σ exp(l − highest)."""
        highest = np.full(self.cost.shape, -np.inf, np.float32)  # (chunks, R)
        total = np.zeros(self.cost.shape)  # (chunks, R)

        def take_in(part: LayerPart, chunk: int, features: slice) -> None:
            products, logits = part.product(features), self._place(features)  # (n, R)
            take_in_block(products, self.bias[features], highest[chunk], total[chunk], logits)

        self.each_chunk(take_in)
        self.highest = highest.max(0)
        with np.errstate(invalid="ignore"):  # of infinite logits, which make the cost not-a-number
            total = (total * np.exp(highest - self.highest)).sum(0)  # (R,)
            self.rest = (np.log(self.depth) - np.log(total)).astype(np.float32)

    def _place(self, features: slice) -> Floats:
        """Where the logits or means of some features are kept, ``(n, R)``."""
        if self._holds:
            return self._held[features]
        return np.empty((features.stop - features.start, self.n_rows), np.float32)

    def _logits(self, part: LayerPart, features: slice) -> Floats:
        """Logits of some features, held or computed again, ``(n, R)``."""
        logits = self._place(features)
        if not self._holds:
            logits_of_block(part.product(features), self.bias[features], logits)
        return logits

    def _write_slopes(self, part: LayerPart, features: slice, share_slope: Floats) -> None:
        means = self._logits(part, features)  # (n, R)
        if not self._holds:
            means_of_block(means, self.highest, self.rest)
        slopes_of_block(
            means,
            self.inverse_dispersion[features],
            share_slope,
            self.weights,
            self.pointers,
            self.columns,
            self.entry_slopes,
            features.start,
            part.room(features),
            self.bias_slope[features],
        )
