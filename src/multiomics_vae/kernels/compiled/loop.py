"""What every compiled loop over chunks has: arrays of the data, buffers, sums of each thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multiomics_vae.kernels.chunked import Costs
from multiomics_vae.kernels.compiled.blocks import Blocks
from multiomics_vae.kernels.options import ChunkOptions
from multiomics_vae.kernels.output_layer import OutputLayer, Wanted
from multiomics_vae.kernels.sparse_rows import SparseRows

Floats = NDArray[np.float32]
Sums = NDArray[np.float64]


@dataclass(frozen=True)
class CompiledInputs:
    """What a compiled loop is given.

    Parameters
    ----------
    layer
        The output layer of R rows, a whole number of times B.
    data
        B cells; row r of the layer is about cell r mod B.
    depth
        ``(R,)``; None without a softmax.
    log_dispersion
        ``(F,)``; None without a dispersion.
    wanted
        Which gradients to compute.
    options
        Chunk size and memory.
    """

    layer: OutputLayer
    data: SparseRows
    depth: Tensor | None
    log_dispersion: Tensor | None
    wanted: Wanted
    options: ChunkOptions


class CompiledLoop(ABC):
    """Value and gradients of one output layer and likelihood, chunk by chunk; abstract."""

    def __init__(self, inputs: CompiledInputs) -> None:
        self.inputs, self.layer, self.wanted = inputs, inputs.layer, inputs.wanted
        layer, data = inputs.layer, inputs.data
        self.pointers, self.columns = data.row_pointers.numpy(), data.columns.numpy()
        self.values: Floats = data.values.numpy()
        self.n_features, self.n_rows = data.n_features, layer.n_rows
        weights = layer.cell_weights
        self.weights: Floats = np.ones(self.n_rows, np.float32) if weights is None else weights.numpy()
        self.bias: Floats = layer.bias.detach().numpy()
        size = inputs.options.chunk_size_for(self.n_rows, torch.float32, layer.weight.device)
        self.chunk_size = min(size, self.n_features)
        self._products = layer.weight.new_empty(self.chunk_size, self.n_rows, dtype=layer.product_dtype)
        # The slopes by the biases fall out of the loop; they are kept only if they are wanted.
        self.bias_slope: Floats = (
            np.empty(self.n_features, np.float32)
            if layer.bias_gradient is None
            else layer.bias_gradient.numpy()
        )

    def run(self) -> Costs:
        """Go through all chunks."""
        with Blocks() as blocks:
            self.blocks = blocks
            self.cost: Sums = np.zeros((blocks.n_threads, self.n_rows))  # (T, R)
            self._run()
        self.layer.finish()
        layer = self.layer
        return Costs(
            torch.from_numpy(self.cost.sum(0)),
            layer.hidden_gradient,
            layer.weight_gradient,
            layer.bias_gradient,
            layer.offset_gradient,
            self._log_dispersion_gradient(),
        )

    @abstractmethod
    def _run(self) -> None:
        """Fill the costs and hand the slopes to the layer."""

    def _log_dispersion_gradient(self) -> Tensor | None:
        return None

    @property
    def chunks(self) -> tuple[slice, ...]:
        """The features of each chunk."""
        size, last = self.chunk_size, self.n_features
        return tuple(slice(low, min(low + size, last)) for low in range(0, last, size))

    def product(self, features: slice) -> NDArray[np.floating]:
        """Products W hᵀ of some features, ``(n, R)``: in the buffer that `add_slopes` reads."""
        part = self._products[: features.stop - features.start]
        self.layer.product(features, part)
        return self.buffer(features)

    def buffer(self, features: slice) -> NDArray[np.floating]:
        """The memory of the products; bfloat16, which numpy does not know, as uint16: ``(n, R)``."""
        part = self._products[: features.stop - features.start]
        array: NDArray[np.floating] = (part.view(torch.uint16) if part.dtype.itemsize == 2 else part).numpy()
        return array

    def add_slopes(self, features: slice) -> None:
        """Multiply the slopes that lie in the buffer into the gradients of weight and hidden layer."""
        self.layer.add_products(features, self._products[: features.stop - features.start])
