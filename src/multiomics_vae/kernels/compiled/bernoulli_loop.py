"""The compiled loop of a Bernoulli likelihood: product, cost and slope, gradient products."""

from __future__ import annotations

import numpy as np
import torch

from multiomics_vae.kernels.compiled.bernoulli import bernoulli_block
from multiomics_vae.kernels.compiled.layer_part import LayerPart
from multiomics_vae.kernels.compiled.loop import CompiledInputs, CompiledLoop, Floats


class BernoulliLoop(CompiledLoop):
    """One pass over the chunks."""

    def __init__(self, inputs: CompiledInputs) -> None:
        super().__init__(inputs)
        offset = inputs.layer.offset
        none = np.zeros(self.n_rows, np.float32)
        self.offset: Floats = none if offset is None else offset.detach().numpy()

    def _run(self) -> None:
        offset_slope = np.zeros_like(self.cost)  # (chunks, R)

        def walk(part: LayerPart, chunk: int, features: slice) -> None:
            bernoulli_block(
                part.product(features),
                self.bias[features],
                self.offset,
                self.weights,
                None if self.feature_weights is None else self.feature_weights[features],
                *self.entries_of(features),
                self.columns,
                self.values,
                features.start,
                self.cost[chunk],
                offset_slope[chunk],
                self.bias_slope[features],
            )
            if self.wanted.layer:
                self.add_slopes(part, chunk, features)

        self.each_chunk(walk)
        if self.layer.offset_gradient is not None:
            self.layer.offset_gradient += torch.from_numpy(offset_slope.sum(0))
