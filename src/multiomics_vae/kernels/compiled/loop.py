"""What every compiled loop over chunks has: arrays of the data, buffers, sums of each thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multiomics_vae.kernels.allocation import keep_freed_memory
from multiomics_vae.kernels.chunked import Costs
from multiomics_vae.kernels.compiled.blocks import Blocks
from multiomics_vae.kernels.compiled.layer_part import LayerPart, layer_part
from multiomics_vae.kernels.compiled.places import find_places
from multiomics_vae.kernels.drawn_features import DrawnFeatures
from multiomics_vae.kernels.options import SMALLEST_CHUNK, ChunkOptions, even_chunk_size
from multiomics_vae.kernels.output_layer import OutputLayer, Wanted
from multiomics_vae.kernels.sparse_rows import SparseRows

Floats = NDArray[np.float32]
Sums = NDArray[np.float64]
FEWEST_SHARED = 2**18  # entries that are searched by several threads
FEWEST_CHUNKS = 2  # however few the features: threads would have nothing to share


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
    dispersion_weights
        Of the rows in the gradient by it, ``(R,)``; None without a dispersion.
    wanted
        Which gradients to compute.
    options
        Chunk size and memory.
    drawn
        What the F features were drawn from and stand for; None if they are all there are.
    """

    layer: OutputLayer
    data: SparseRows
    depth: Tensor | None
    log_dispersion: Tensor | None
    dispersion_weights: Tensor | None
    wanted: Wanted
    options: ChunkOptions
    drawn: DrawnFeatures | None = None


def chunks_of(n_features: int, chunk_size: int) -> tuple[slice, ...]:
    """Features in chunks of a size; the last may have fewer."""
    return tuple(slice(low, min(low + chunk_size, n_features)) for low in range(0, n_features, chunk_size))


class CompiledLoop(ABC):
    """Value and gradients of one output layer and likelihood, chunk by chunk; abstract."""

    def __init__(self, inputs: CompiledInputs) -> None:
        self.inputs, self.layer, self.wanted = inputs, inputs.layer, inputs.wanted
        layer, data = inputs.layer, inputs.data
        self.columns: NDArray[np.int64] = data.columns.numpy()
        self.values: Floats = data.values.numpy()
        self.n_features, self.n_rows = data.n_features, layer.n_rows
        weights = layer.cell_weights
        self.weights: Floats = np.ones(self.n_rows, np.float32) if weights is None else weights.numpy()
        self.bias: Floats = layer.bias.detach().numpy()
        size = inputs.options.chunk_size_for(self.n_rows, layer.product_dtype, layer.weight.device)
        if inputs.options.chunk_size is None:
            size = min(size, max(SMALLEST_CHUNK, -(-self.n_features // FEWEST_CHUNKS)))
            size = even_chunk_size(self.n_features, size)
        self.chunk_size = min(size, self.n_features)
        self.pointers: NDArray[np.int64] = data.row_pointers.numpy()
        drawn = inputs.drawn
        self.feature_weights: Floats | None = None if drawn is None else drawn.weights.numpy()  # (F,)
        # The slopes by the biases fall out of the loop; they are kept only if they are wanted.
        self.bias_slope: Floats = (
            np.empty(self.n_features, np.float32)
            if layer.bias_gradient is None
            else layer.bias_gradient.numpy()
        )

    def run(self) -> Costs:
        """Go through all chunks."""
        keep_freed_memory()
        layer, n_chunks = self.layer, len(self.chunks)
        self.cost: Sums = np.zeros((n_chunks, self.n_rows))  # (chunks, R)
        # Sums are kept by chunk, so that they do not depend on which thread took which chunk. They lie in one
        # piece of memory: many that outlive their chunk would take the room that it has freed for the next.
        self.hidden_slopes: Tensor | None = None  # (chunks, R, H)
        if layer.hidden_gradient is not None and self.wanted.layer:
            self.hidden_slopes = layer.hidden_columns.new_empty(n_chunks, *layer.hidden.shape)
        with Blocks() as blocks:
            self.blocks = blocks
            self._parts = [layer_part(layer, self.chunk_size) for _ in range(blocks.n_threads)]
            self._places = self._find_places()
            self._run()
        if layer.hidden_gradient is not None and self.hidden_slopes is not None:
            layer.hidden_gradient += self.hidden_slopes.sum(0, dtype=torch.float32)
        layer.finish()
        return Costs(
            torch.from_numpy(self.cost.sum(0)),
            layer.hidden_gradient,
            layer.weight_gradient,
            layer.bias_gradient,
            layer.offset_gradient,
            self._log_dispersion_gradient(),
        )

    def _find_places(self) -> NDArray[np.int64]:
        """The first entry of each cell at or after the start of each chunk; the end: ``(chunks + 1, B)``."""
        edges = np.array([*(chunk.start for chunk in self.chunks), self.n_features])  # (chunks + 1,)
        n_cells = len(self.pointers) - 1
        places = np.empty((n_cells, len(edges)), np.int64)  # (B, chunks + 1)

        def find(_: int, low: int, high: int) -> None:
            find_places(self.pointers[low : high + 1], self.columns, edges, places[low:high])

        if len(self.columns) < FEWEST_SHARED:
            find(0, 0, n_cells)
        else:
            self.blocks.each(n_cells, find)
        return np.ascontiguousarray(places.T)

    @abstractmethod
    def _run(self) -> None:
        """Fill the costs and hand the slopes to the layer."""

    def _log_dispersion_gradient(self) -> Tensor | None:
        return None

    @property
    def chunks(self) -> tuple[slice, ...]:
        """The features of each chunk."""
        return chunks_of(self.n_features, self.chunk_size)

    def entries_of(self, features: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the stored entries of a chunk begin and end in each cell, ``(B,)`` each."""
        chunk = features.start // self.chunk_size
        return self._places[chunk], self._places[chunk + 1]

    def each_chunk(self, walk: Callable[[LayerPart, int, slice], None]) -> None:
        """Call ``walk(part, chunk, features)`` for every chunk, in threads that take one after the other."""
        chunks = self.chunks
        self.blocks.each_one(
            len(chunks), lambda thread, chunk: walk(self._parts[thread], chunk, chunks[chunk])
        )

    def add_slopes(self, part: LayerPart, chunk: int, features: slice) -> None:
        """Let the gradients of the layer take in the slopes that a thread has made."""
        part.add_slopes(features, None if self.hidden_slopes is None else self.hidden_slopes[chunk])
