"""The compiled loop of counts whose means are shares of a depth; a subclass adds the costs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch

from multiomics_vae.kernels.allocation import empty_buffer
from multiomics_vae.kernels.compiled.layer_part import LayerPart, layer_part
from multiomics_vae.kernels.compiled.loop import CompiledInputs, CompiledLoop, Floats, Sums, chunks_of
from multiomics_vae.kernels.compiled.normaliser import (
    logits_of_block,
    means_of_block,
    slopes_of_block,
    take_in_block,
)
from multiomics_vae.kernels.options import even_chunk_size
from multiomics_vae.kernels.output_layer import OutputLayer, Wanted

NOTHING = Wanted(False, False, False, False, False)


class CountLoop(CompiledLoop):
    """Three passes over the chunks, as in `ChunkLoop`: normalisers, costs, gradients; abstract.

    The logits of all features are held from pass to pass within the memory budget, else computed again.
    Of a drawn part of the features the normaliser is that of the whole layer, and slopes are estimates.
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
        self.drawn = inputs.drawn
        self._is_filled = False
        self.counts: Floats = self.values
        self.entry_weights: Floats | None = None  # (nnz,)
        if self.feature_weights is not None:
            self._weigh(self.feature_weights)
        self._holds = n_bytes <= inputs.options.memory_budget
        n_held = self.n_features if self._holds else 0
        self._held: Floats = empty_buffer((n_held, self.n_rows), like).detach().numpy()
        n_repeats = self.n_rows // inputs.data.n_cells
        self.entry_slopes: Floats = np.empty((n_repeats, len(self.values)), np.float32)
        self.highest: Floats = np.empty(0, np.float32)
        self.rest: Floats = np.empty(0, np.float32)

    def _weigh(self, weights: Floats) -> None:
        """Let features stand for more: costs and slopes scale with means, dispersions and counts together."""
        self.bias = self.bias + np.log(weights)
        self.entry_weights = weights[self.columns]
        self.values = self.counts * self.entry_weights

    @abstractmethod
    def _add_costs(self, features: slice, logits: Floats, cost: Sums, slope_sum: Sums) -> None:
        """Add the costs of some features, and Σ of their slopes by the log mean; leave means behind."""

    def _run(self) -> None:
        self._normalise()
        slope_sum = np.zeros_like(self.cost)  # (chunks, R)
        self.mean_sum: Sums = np.zeros_like(self.cost)  # (chunks, R)

        def add_costs(part: LayerPart, chunk: int, features: slice) -> None:
            logits = self._logits(part, features)  # (n, R)
            self._add_costs(features, logits, self.cost[chunk], slope_sum[chunk])
            if self.drawn is not None:
                logits.sum(0, dtype=np.float64, out=self.mean_sum[chunk])  # they are means by now

        self.each_chunk(add_costs)
        self._is_filled = True
        if not self.wanted.layer:
            return
        share_slope = self._share_slope(slope_sum.sum(0))  # (R,)

        def add_gradient(part: LayerPart, chunk: int, features: slice) -> None:
            self._write_slopes(part, features, share_slope)
            self.add_slopes(part, chunk, features)

        self.each_chunk(add_gradient)

    def _normalise(self) -> None:
        """Pass 1: highest logit of each row, and log depth − log Σ exp(l − highest), over all features."""
        if self.drawn is None or self.drawn.whole is None:
            self._add_up(self._parts, self.bias, self.chunk_size, lambda _, features: self._place(features))
            self._is_filled = True
            return
        options, here = self.inputs.options, self.layer
        size = options.chunk_size_for(self.n_rows, here.product_dtype, here.weight.device)
        size = even_chunk_size(len(self.drawn.whole.bias), size) if options.chunk_size is None else size
        weight, bias = self.drawn.whole.weight, self.drawn.whole.bias.detach()
        layer = OutputLayer(here.hidden, weight, bias, None, None, size, options.product_dtype, NOTHING)
        rooms = [np.empty((size, self.n_rows), np.float32) for _ in self._parts]
        self._add_up(
            [layer_part(layer, size) for _ in self._parts],
            bias.numpy(),
            size,
            lambda thread, features: rooms[thread][: features.stop - features.start],
        )

    def _add_up(
        self, parts: list[LayerPart], bias: Floats, size: int, place: Callable[[int, slice], Floats]
    ) -> None:
        """Find `highest` and `rest`; logits are written where ``place(thread, features)`` says."""
        chunks = chunks_of(len(bias), size)
        highest = np.full((len(chunks), self.n_rows), -np.inf, np.float32)  # (chunks, R)
        total = np.zeros(highest.shape)  # (chunks, R)

        def take_in(thread: int, chunk: int) -> None:
            features = chunks[chunk]
            products, logits = parts[thread].product(features), place(thread, features)  # (n, R)
            take_in_block(products, bias[features], highest[chunk], total[chunk], logits)

        self.blocks.each_one(len(chunks), take_in)
        self.highest = highest.max(0)
        with np.errstate(invalid="ignore"):  # of infinite logits, which make the cost not-a-number
            total = (total * np.exp(highest - self.highest)).sum(0)  # (R,)
            self.rest = (np.log(self.depth) - np.log(total)).astype(np.float32)

    def _share_slope(self, slope_sum: Sums) -> Floats:
        """What every slope has of the others, over its mean: ``(R,)``."""
        if self.drawn is None:
            return (-slope_sum / self.depth).astype(np.float32)
        data = self.inputs.data
        counts = data.with_values(torch.from_numpy(self.values)).row_sums()  # (B,)
        counts = counts.repeat(self.n_rows // data.n_cells)  # (R,)
        excess = torch.from_numpy(slope_sum - self.mean_sum.sum(0)) + counts  # (R,)
        found = self.drawn.share_slope(torch.from_numpy(self.depth), excess)  # (R,)
        return found.float().numpy()

    def _place(self, features: slice) -> Floats:
        """Where the logits or means of some features are kept, ``(n, R)``."""
        if self._holds:
            return self._held[features]
        return np.empty((features.stop - features.start, self.n_rows), np.float32)

    def _logits(self, part: LayerPart, features: slice) -> Floats:
        """Logits of some features, held or computed, ``(n, R)``."""
        logits = self._place(features)
        if not (self._holds and self._is_filled):
            logits_of_block(part.product(features), self.bias[features], logits)
        return logits

    def _write_slopes(self, part: LayerPart, features: slice, share_slope: Floats) -> None:
        means = self._logits(part, features)  # (n, R)
        if not self._holds:
            means_of_block(means, self.highest, self.rest)
        weights = self.feature_weights
        slopes_of_block(
            means,
            self.inverse_dispersion[features],
            share_slope,
            1.0 / self.depth,
            None if weights is None else 1.0 - 1.0 / weights[features],
            self.weights,
            *self.entries_of(features),
            self.columns,
            self.values,
            self.entry_slopes,
            features.start,
            part.room(features),
            self.bias_slope[features],
        )
