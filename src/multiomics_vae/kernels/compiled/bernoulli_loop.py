"""The compiled loop of a Bernoulli likelihood: product, cost and slope, gradient products."""

from __future__ import annotations

import numpy as np
import torch

from multiomics_vae.kernels.compiled.bernoulli import bernoulli_block
from multiomics_vae.kernels.compiled.loop import CompiledInputs, CompiledLoop, Floats, Sums


class BernoulliLoop(CompiledLoop):
    """One pass over the chunks."""

    def __init__(self, inputs: CompiledInputs) -> None:
        super().__init__(inputs)
        offset = inputs.layer.offset
        none = np.zeros(self.n_rows, np.float32)
        self.offset: Floats = none if offset is None else offset.detach().numpy()

    def _run(self) -> None:
        offset_slope = np.zeros_like(self.cost)  # (T, R)
        for features in self.chunks:
            self._walk(features, offset_slope)
            if self.wanted.layer:
                self.add_slopes(features)
        if self.layer.offset_gradient is not None:
            self.layer.offset_gradient += torch.from_numpy(offset_slope.sum(0))

    def _walk(self, features: slice, offset_slope: Sums) -> None:
        logits = self.product(features)  # (n, R)

        def walk(thread: int, low: int, high: int) -> None:
            here = slice(features.start + low, features.start + high)
            bernoulli_block(
                logits[low:high],
                self.bias[here],
                self.offset,
                self.weights,
                self.pointers,
                self.columns,
                self.values,
                here.start,
                self.cost[thread],
                offset_slope[thread],
                self.bias_slope[here],
            )

        self.blocks.each(len(logits), walk)
