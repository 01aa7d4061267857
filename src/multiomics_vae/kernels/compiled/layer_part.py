"""The matrix products of one thread of a compiled loop, in buffers of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multiomics_vae.kernels.output_layer import OutputLayer
from multiomics_vae.kernels.products import onednn_is_faster, product_with_transposed

ROWS_TOGETHER = 128  # so few that zeros cost little, so many that the same numbers come again and again


class LayerPart(ABC):
    """The matrix products of a thread, a chunk of features after the other; abstract.

    Parameters
    ----------
    layer
        The output layer, of R rows.
    chunk_size
        Features in the widest chunk.
    """

    def __init__(self, layer: OutputLayer, chunk_size: int) -> None:
        self.layer = layer

    @abstractmethod
    def product(self, features: slice) -> NDArray[np.floating]:
        """The products W hᵀ of some features, ``(n, R)``, in memory that may be written to.

        Numbers in bfloat16, which numpy does not know, come as uint16.
        """

    @abstractmethod
    def room(self, features: slice) -> NDArray[np.floating]:
        """Memory of the same kind and size, for slopes: ``(n, R)``, uninitialised."""

    @abstractmethod
    def add_slopes(self, features: slice, out: Tensor | None) -> None:
        """Multiply what stands in the last `product` or `room` into the gradient of the weight.

        Parameters
        ----------
        features
            Of the last `product` or `room`.
        out
            Where to write what it adds to the gradient of the hidden layer, ``(R, H)``, in the type of the
            products; None if that is not wanted.
        """


class ExactPart(LayerPart):
    """Products of float32 numbers."""

    def __init__(self, layer: OutputLayer, chunk_size: int) -> None:
        super().__init__(layer, chunk_size)
        # oneDNN returns memory of its own, which would only be copied.
        self._buffer = None if onednn_is_faster() else self._empty(chunk_size)
        self._square = self._empty(0)

    def product(self, features: slice) -> NDArray[np.floating]:
        layer, buffer = self.layer, self._buffer
        room = None if buffer is None else buffer[: features.stop - features.start]
        self._square = product_with_transposed(layer.weight[features], layer.hidden_columns.t(), room)
        array: NDArray[np.floating] = self._square.numpy()
        return array

    def room(self, features: slice) -> NDArray[np.floating]:
        n, buffer = features.stop - features.start, self._buffer
        self._square = self._empty(n) if buffer is None else buffer[:n]
        array: NDArray[np.floating] = self._square.numpy()
        return array

    def add_slopes(self, features: slice, out: Tensor | None) -> None:
        layer, slopes = self.layer, self._square  # (n, R)
        if layer.weight_gradient is not None:
            gradient = layer.weight_gradient[features]
            product_with_transposed(slopes, layer.weighted_hidden.t(), gradient)
        if out is not None:
            product_with_transposed(slopes.t(), layer.weight[features].t(), out)

    def _empty(self, n: int) -> Tensor:
        return self.layer.hidden_columns.new_empty(n, self.layer.n_rows)


class RoundedPart(LayerPart):
    """Products of factors that are rounded, as a rule to bfloat16.

    oneDNN makes machine code for every new shape, which takes longer than a small product. Of drawn features
    there are more or fewer at every step; their products are taken with rows of zeros up to a round number.
    """

    def __init__(self, layer: OutputLayer, chunk_size: int) -> None:
        super().__init__(layer, chunk_size)
        low, n_hidden = layer.product_dtype, layer.weight.shape[1]
        width = min(chunk_size, len(layer.weight))
        if layer.rounded_weight is None:
            width = rounded_up(width)
        self._buffer = torch.empty(width, layer.n_rows, dtype=low)  # (chunk, R)
        self._weight = torch.empty(width, n_hidden, dtype=low)  # (chunk, H)
        self._gradient = torch.empty(width, n_hidden, dtype=low)  # (chunk, H)
        self._rounded = slice(0, 0)

    def product(self, features: slice) -> NDArray[np.floating]:
        factor = self._factor(features)  # (n or more, H)
        torch.mm(factor, self.layer.hidden_columns, out=self._buffer[: len(factor)])
        return self.room(features)

    def room(self, features: slice) -> NDArray[np.floating]:
        square = self._buffer[: features.stop - features.start]
        array: NDArray[np.floating] = (
            square.view(torch.uint16) if square.dtype.itemsize == 2 else square
        ).numpy()
        return array

    def add_slopes(self, features: slice, out: Tensor | None) -> None:
        layer, factor, n = self.layer, self._factor(features), features.stop - features.start
        slopes = self._buffer[: len(factor)]  # (n or more, R)
        slopes[n:] = 0.0
        if layer.weight_gradient is not None:
            gradient = layer.weight_gradient[features]
            if gradient.dtype == slopes.dtype and len(factor) == n:
                torch.mm(slopes, layer.weighted_hidden, out=gradient)
            else:
                low = torch.mm(slopes, layer.weighted_hidden, out=self._gradient[: len(slopes)])
                gradient.copy_(low[:n])
        if out is not None:
            torch.mm(slopes.t(), factor, out=out)

    def _factor(self, features: slice) -> Tensor:
        """The weights of some features, rounded, ``(n, H)``; with zeros below where they are rounded here."""
        if self.layer.rounded_weight is not None:
            return self.layer.rounded_weight[features]
        n = features.stop - features.start
        rounded = self._weight[: rounded_up(n)]
        if self._rounded != features:
            rounded[:n].copy_(self.layer.weight[features])
            rounded[n:] = 0.0
            self._rounded = features
        return rounded


def rounded_up(n: int) -> int:
    """The number of rows that n rows are filled up to."""
    return -(-n // ROWS_TOGETHER) * ROWS_TOGETHER


def layer_part(layer: OutputLayer, chunk_size: int) -> LayerPart:
    """The part of a thread, for the type that the layer's products have."""
    exact = layer.product_dtype == torch.float32
    return ExactPart(layer, chunk_size) if exact else RoundedPart(layer, chunk_size)
