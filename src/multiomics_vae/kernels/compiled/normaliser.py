"""The softmax over features, block by block: its normaliser, and the slopes that flow back through it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiomics_vae.kernels.compiled.arithmetic import exp_of
from multiomics_vae.kernels.compiled.bits import narrowed, prefer_wide_vectors, widened
from multiomics_vae.kernels.compiled.compile import compiled_loop

FEATURES_IN_TILE = 32  # two tiles of logits fit the cache nearest to the processor


@compiled_loop
def take_in_block(
    products: NDArray[np.floating],
    bias: NDArray[np.float32],
    highest: NDArray[np.float32],
    total: NDArray[np.float64],
    logits: NDArray[np.float32],
) -> None:
    """Write the logits of a block, and let the running maximum and Σ exp(l − maximum) take them in.

    Parameters
    ----------
    products
        W hᵀ, ``(n, R)``.
    bias
        ``(n,)``.
    highest, total
        Changed, ``(R,)``; −inf and 0 before the first block.
    logits
        Written, ``(n, R)``; not the memory of ``products``.
    """
    prefer_wide_vectors()
    n, n_rows = products.shape
    tile_highest = np.empty(n_rows, np.float32)
    sums = np.empty(n_rows, np.float32)
    for start in range(0, n, FEATURES_IN_TILE):
        stop = min(start + FEATURES_IN_TILE, n)
        tile_highest[:] = highest
        for i in range(start, stop):
            for row in range(n_rows):
                logit = widened(products[i, row]) + bias[i]
                logits[i, row] = logit
                tile_highest[row] = logit if logit > tile_highest[row] else tile_highest[row]
        sums[:] = np.float32(0)
        for i in range(start, stop):
            for row in range(n_rows):
                sums[row] += exp_of(logits[i, row] - tile_highest[row])
        for row in range(n_rows):
            total[row] = total[row] * exp_of(highest[row] - tile_highest[row]) + sums[row]
            highest[row] = tile_highest[row]


@compiled_loop
def logits_of_block(
    products: NDArray[np.floating], bias: NDArray[np.float32], logits: NDArray[np.float32]
) -> None:
    """Write the logits alone; arguments as for `take_in_block`."""
    n, n_rows = products.shape
    for i in range(n):
        for row in range(n_rows):
            logits[i, row] = widened(products[i, row]) + bias[i]


@compiled_loop
def means_of_block(
    logits: NDArray[np.float32], highest: NDArray[np.float32], rest: NDArray[np.float32]
) -> None:
    """Put the means exp((l − highest) + rest) in place of logits ``(n, R)``."""
    prefer_wide_vectors()
    n, n_rows = logits.shape
    for i in range(n):
        for row in range(n_rows):
            logits[i, row] = exp_of((logits[i, row] - highest[row]) + rest[row])


@compiled_loop
def slopes_of_block(
    means: NDArray[np.float32],
    inverse_dispersion: NDArray[np.float32],
    share_slope: NDArray[np.float32],
    own_slope: NDArray[np.float32],
    absent: NDArray[np.float32] | None,
    weights: NDArray[np.float32],
    lows: NDArray[np.int64],
    highs: NDArray[np.int64],
    columns: NDArray[np.int64],
    values: NDArray[np.float32],
    entry_slopes: NDArray[np.float32],
    first: int,
    slopes: NDArray[np.floating],
    bias_slope: NDArray[np.float32],
) -> None:
    """Slopes by the logits: those of zeros, μ/(1 + μ/θ) + μ · share slope, and those of stored entries.

    Of drawn features also μ · own slope · absent · e, with e = s − (μ − x) and s the slope by the log mean.

    Parameters
    ----------
    means
        Of n features from ``first`` on, ``(n, R)``; R is a whole number of times B, and the data are
        repeated as often.
    inverse_dispersion
        1/θ of the block, ``(n,)``; zeros for a Poisson.
    share_slope
        −Σ slopes by the log mean / depth, ``(R,)``, or its estimate from drawn features.
    own_slope
        1 / depth, ``(R,)``.
    absent
        The chance that a feature is not drawn, ``(n,)``; None where these are all features.
    weights
        Of the rows in slopes by the bias, ``(R,)``.
    lows, highs
        Where the entries of these features begin and end in each cell, ``(B,)``.
    columns, values
        The data, as in `SparseRows`, B cells.
    entry_slopes
        What stored entries add to the slopes by the log mean, ``(R / B, nnz)``.
    first
        Feature of the first row of ``means``.
    slopes
        Written, ``(n, R)``; not the memory of ``means``.
    bias_slope
        Written, ``(n,)``.
    """
    prefer_wide_vectors()
    n, n_rows = means.shape
    n_cells = len(lows)
    one = np.float32(1)
    for i in range(n):
        of_bias = np.float32(0)
        for row in range(n_rows):
            mean = means[i, row]
            by_mean = mean / (one + mean * inverse_dispersion[i])
            slope = by_mean + mean * share_slope[row]
            if absent is not None:
                slope += mean * own_slope[row] * absent[i] * (by_mean - mean)
            of_bias += slope * weights[row]
            slopes[i, row] = narrowed(slope, slopes)
        bias_slope[i] = of_bias
    for cell in range(n_cells):
        low, high = lows[cell], highs[cell]
        column, x = columns[low:high], values[low:high]
        for repeat in range(n_rows // n_cells):
            row = repeat * n_cells + cell
            here = entry_slopes[repeat, low:high]
            for e in range(len(column)):
                i = column[e] - first
                added = here[e]
                if absent is not None:
                    added += own_slope[row] * absent[i] * means[i, row] * (here[e] + x[e])
                slopes[i, row] = narrowed(widened(slopes[i, row]) + added, slopes)
                bias_slope[i] += weights[row] * added
