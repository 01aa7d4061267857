"""Slopes by the logits of drawn features, whose means are shares among features that were not drawn too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiomics_vae.kernels.compiled.bits import narrowed, widened
from multiomics_vae.kernels.compiled.compile import compiled_loop
from multiomics_vae.kernels.compiled.places import first_at


@compiled_loop
def slopes_of_drawn_block(
    means: NDArray[np.float32],
    inverse_dispersion: NDArray[np.float32],
    share_slope: NDArray[np.float32],
    own_slope: NDArray[np.float32],
    absent: NDArray[np.float32],
    weights: NDArray[np.float32],
    pointers: NDArray[np.int64],
    columns: NDArray[np.int64],
    values: NDArray[np.float32],
    entry_slopes: NDArray[np.float32],
    first: int,
    slopes: NDArray[np.floating],
    bias_slope: NDArray[np.float32],
) -> None:
    """Do what `slopes_of_block` does, with s + μ (share slope + own slope · absent · e), e = s − (μ − x).

    A function of its own, because the entries' means, which e asks for, take half as long again.

    Parameters
    ----------
    means, inverse_dispersion, weights, pointers, columns, values, entry_slopes, first, slopes, bias_slope
        As for `slopes_of_block`, of the drawn features.
    share_slope, own_slope
        −(D + E)/depth and 1/depth of `WholeLayer`, ``(R,)``.
    absent
        The chance that a feature is not drawn, ``(n,)``.
    """
    n, n_rows = means.shape
    n_cells = len(pointers) - 1
    one = np.float32(1)
    for i in range(n):
        of_bias = np.float32(0)
        for row in range(n_rows):
            mean = means[i, row]
            by_mean = mean / (one + mean * inverse_dispersion[i])
            slope = by_mean + mean * (share_slope[row] + own_slope[row] * absent[i] * (by_mean - mean))
            of_bias += slope * weights[row]
            slopes[i, row] = narrowed(slope, slopes)
        bias_slope[i] = of_bias
    for cell in range(n_cells):
        low = first_at(columns, pointers[cell], pointers[cell + 1], first)
        high = first_at(columns, low, pointers[cell + 1], first + n)
        column, x = columns[low:high], values[low:high]
        for repeat in range(n_rows // n_cells):
            row = repeat * n_cells + cell
            here = entry_slopes[repeat, low:high]
            for e in range(len(column)):
                i = column[e] - first
                added = here[e] + own_slope[row] * absent[i] * means[i, row] * (here[e] + x[e])
                slopes[i, row] = narrowed(widened(slopes[i, row]) + added, slopes)
                bias_slope[i] += weights[row] * added
