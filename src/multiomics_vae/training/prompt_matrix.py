"""Optimising all rows of a wide matrix of which a step has drawn some, without a gradient of all.

Where means are shares among features, the normaliser reads every row at every step, so no row can wait until
it is drawn again. But the rows that were not drawn need no zeros written out as their gradient.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multiomics_vae.kernels.allocation import empty_buffer
from multiomics_vae.kernels.compiled.bits import narrowed
from multiomics_vae.kernels.compiled.compile import compiled_loop
from multiomics_vae.kernels.rounded_copy import RoundedCopy
from multiomics_vae.training.row_loops import Floats, Numbers, step_whole
from multiomics_vae.training.touched_matrix import TouchedMatrix, singles
from multiomics_vae.training.walk import Walk

ROWS_IN_PIECE = 1024


@compiled_loop
def step_with_drawn(
    weight: Floats,
    average: Floats,
    mean: Floats,
    square: Floats,
    rounded: NDArray[np.uint16] | None,
    drawn: Numbers,
    first: int,
    gradient: Floats,
    beta_mean: np.float32,
    beta_square: np.float32,
    rate: np.float32,
    shrink: np.float32,
    epsilon: np.float32,
    decay: np.float32,
) -> np.float64:
    """One step of AdamW and of the average on rows in a row, of which some have a gradient.

    Parameters
    ----------
    weight, average, mean, square
        The rows, ``(n, H)``.
    rounded
        Becomes the weight in bfloat16, as uint16; None for no copy.
    drawn
        Which rows have a gradient, increasing, counted from the start of the matrix, ``(k,)``.
    first
        Where in the matrix the first row is.
    gradient
        ``(k, H)``.
    beta_mean, beta_square, rate, shrink, epsilon, decay
        As for `step_whole`.

    Returns
    -------
    float
        Σ gradient².
    """
    total, k = np.float64(0), 0
    nothing = np.zeros(weight.shape[1], np.float32)
    for r in range(len(weight)):
        is_drawn = k < len(drawn) and drawn[k] == first + r
        total += step_whole(
            weight[r],
            average[r],
            mean[r],
            square[r],
            gradient[k] if is_drawn else nothing,
            None,
            beta_mean,
            beta_square,
            rate,
            shrink,
            epsilon,
            decay,
        )
        k += is_drawn
        if rounded is not None:
            for h in range(weight.shape[1]):
                rounded[r, h] = narrowed(weight[r, h], rounded)
    return total


class PromptMatrix(TouchedMatrix):
    """A matrix whose rows are all optimised at every step, by the gradient of those that were drawn."""

    def take(self, features: Tensor) -> Tensor:
        self.finish()
        with torch.no_grad():
            leaf = empty_buffer((len(features), self.parameter.shape[1]), self.parameter)  # (n, H)
            torch.index_select(self.parameter.detach(), 0, features, out=leaf)
        return self.taken(features, leaf)

    def settle(self) -> None:
        self.finish()

    def _pass_step(self, decay: float) -> None:
        self.average.of(self.parameter).lerp_(self.parameter.detach(), 1.0 - decay)

    def _begin_drawn(self, features: Tensor, leaf: Tensor, gradient: Tensor) -> Walk:
        numbers = singles(self.next_numbers())
        arrays, rows, slopes = self.arrays(), features.numpy(), gradient.numpy()
        copy = RoundedCopy.on(self.parameter)
        rounded = None if copy is None else copy.tensor.view(torch.uint16).numpy()
        if copy is not None:
            copy.forget()
        n_pieces = -(-len(self.parameter) // ROWS_IN_PIECE)
        edges = np.searchsorted(rows, np.arange(n_pieces + 1) * ROWS_IN_PIECE)

        def walk(i: int) -> float:
            here = slice(i * ROWS_IN_PIECE, (i + 1) * ROWS_IN_PIECE)
            drawn = slice(edges[i], edges[i + 1])
            weight, average, mean, square = (array[here] for array in arrays)
            low = None if rounded is None else rounded[here]
            part, slope = rows[drawn], slopes[drawn]
            return float(
                step_with_drawn(weight, average, mean, square, low, part, here.start, slope, *numbers)
            )

        def after(squares: float) -> None:
            self.squares = squares
            if copy is not None:
                copy.confirm(self.parameter)

        return Walk(n_pieces, walk, after)
