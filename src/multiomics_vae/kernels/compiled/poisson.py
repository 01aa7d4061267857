"""The Poisson cost of stored entries, block by block; that of zeros adds up to the depth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiomics_vae.kernels.compiled.compile import compiled_loop
from multiomics_vae.kernels.compiled.rising_factorial import log_rising_factorial


@compiled_loop
def log_factorials(values: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write log x! of stored entries, ``(nnz,)``."""
    for e in range(len(values)):
        out[e], _ = log_rising_factorial(values[e], np.float32(1))


@compiled_loop
def add_entries(
    logits: NDArray[np.float32],
    highest: NDArray[np.float32],
    rest: NDArray[np.float32],
    lows: NDArray[np.int64],
    highs: NDArray[np.int64],
    columns: NDArray[np.int64],
    values: NDArray[np.float32],
    log_factorial: NDArray[np.float32],
    first: int,
    cost: NDArray[np.float64],
    slope_sum: NDArray[np.float64],
) -> None:
    """Add log x! − x log μ of the stored entries of a block.

    Parameters
    ----------
    logits
        Of n features from ``first`` on, ``(n, R)``; R is a whole number of times B, and the data are
        repeated as often.
    highest, rest
        The log mean is (l − highest) + rest, ``(R,)``.
    lows, highs
        Where the entries of these features begin and end in each cell, ``(B,)``.
    columns, values
        The data, as in `SparseRows`, B cells.
    log_factorial
        From `log_factorials`, ``(nnz,)``.
    first
        Feature of the first row of ``logits``.
    cost, slope_sum
        Added to: costs, and slopes by the log mean, ``(R,)``.
    """
    n_rows = logits.shape[1]
    n_cells = len(lows)
    for cell in range(n_cells):
        low, high = lows[cell], highs[cell]
        for row in range(cell, n_rows, n_cells):
            total, count = 0.0, 0.0
            for e in range(low, high):
                log_mean = (logits[columns[e] - first, row] - highest[row]) + rest[row]
                total += log_factorial[e] - values[e] * log_mean
                count += values[e]
            cost[row] += total
            slope_sum[row] -= count
