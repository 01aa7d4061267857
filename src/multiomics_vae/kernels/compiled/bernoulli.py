"""The Bernoulli cost and its slope, in one walk over a block of logits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from multiomics_vae.kernels.compiled.arithmetic import HALF, ONE, exp_of, log_of_one_more, log_of_one_to_two
from multiomics_vae.kernels.compiled.bits import narrowed, prefer_wide_vectors, widened
from multiomics_vae.kernels.compiled.compile import compiled_loop, inlined_formula

# So many terms are added in float32 before the sum goes to float64; as many factors up to 2 fit a float32.
FEATURES_IN_SUM = 64


@inlined_formula
def closed(logit: Any) -> Any:
    """What a closed peak costs, softplus(l) = a + log(1 + u), as a and u, and its slope, σ(l)."""
    u = exp_of(-abs(logit))
    inverse = ONE / (ONE + u)
    # Not max(l, 0), which would hide a logit that is not a number.
    return HALF * (logit + abs(logit)), u, inverse if logit > 0 else u * inverse


@compiled_loop
def bernoulli_block(
    logits: NDArray[np.floating],
    bias: NDArray[np.float32],
    offset: NDArray[np.float32],
    weights: NDArray[np.float32],
    feature_weights: NDArray[np.float32] | None,
    lows: NDArray[np.int64],
    highs: NDArray[np.int64],
    columns: NDArray[np.int64],
    values: NDArray[np.float32],
    first: int,
    cost: NDArray[np.float64],
    offset_slope: NDArray[np.float64],
    bias_slope: NDArray[np.float32],
) -> None:
    """Add softplus(l) − [x > 0] l to the costs, and put the slopes σ(l) − [x > 0] in place of the logits.

    Parameters
    ----------
    logits
        Products W hᵀ of n features from ``first`` on, ``(n, R)``; R is a whole number of times B, and the
        data are repeated as often. Bias and offset are added here.
    bias, offset
        ``(n,)`` and ``(R,)``.
    weights
        Of the rows in the slopes by the bias, ``(R,)``.
    feature_weights
        How many features each stands for, by which its costs and slopes are multiplied, ``(n,)``; None for 1.
    lows, highs
        Where the entries of these features begin and end in each cell, ``(B,)``.
    columns, values
        The data, as in `SparseRows`, B cells.
    first
        Feature of the first row of ``logits``.
    cost, offset_slope
        Added to, ``(R,)``.
    bias_slope
        Written, ``(n,)``.
    """
    prefer_wide_vectors()
    n, n_rows = logits.shape
    n_cells = len(lows)
    zero = np.float32(0)
    for cell in range(n_cells):
        low, high = lows[cell], highs[cell]
        # Slices, because indices that start at 0 need no check for negative ones.
        column, x = columns[low:high], values[low:high]
        for row in range(cell, n_rows, n_cells):
            total = zero
            for e in range(len(column)):
                if x[e] > 0:
                    i = column[e] - first
                    logit = widened(logits[i, row]) + bias[i] + offset[row]
                    total += logit if feature_weights is None else feature_weights[i] * logit
            cost[row] -= total
    costs = np.zeros(n_rows, np.float32)
    slopes = np.zeros(n_rows, np.float32)
    excess = np.zeros(n_rows, np.float32)
    for i in range(n):
        of_bias = zero
        if feature_weights is None:
            for row in range(n_rows):
                here, u, slope = closed(widened(logits[i, row]) + bias[i] + offset[row])
                costs[row] += here
                # Σ log(1 + u) = log Π (1 + u), at most 2 each: one logarithm for all features in a sum. What
                # a product has above 1 is kept, because a small u would be rounded off beside the 1.
                excess[row] += u + excess[row] * u
                slopes[row] += slope
                of_bias += slope * weights[row]
                logits[i, row] = narrowed(slope, logits)
        else:
            share = feature_weights[i]
            for row in range(n_rows):
                here, u, slope = closed(widened(logits[i, row]) + bias[i] + offset[row])
                costs[row] += share * (here + log_of_one_to_two(u))
                slopes[row] += share * slope
                of_bias += share * slope * weights[row]
                logits[i, row] = narrowed(share * slope, logits)
        bias_slope[i] = of_bias
        if (i + 1) % FEATURES_IN_SUM == 0 or i + 1 == n:
            for row in range(n_rows):
                cost[row] += costs[row] + log_of_one_more(excess[row])
                offset_slope[row] += slopes[row]
                costs[row] = zero
                slopes[row] = zero
                excess[row] = zero
    for cell in range(n_cells):
        low, high = lows[cell], highs[cell]
        column, x = columns[low:high], values[low:high]
        for row in range(cell, n_rows, n_cells):
            opened = zero
            for e in range(len(column)):
                if x[e] > 0:
                    i = column[e] - first
                    share = ONE if feature_weights is None else feature_weights[i]
                    logits[i, row] = narrowed(widened(logits[i, row]) - share, logits)
                    bias_slope[i] -= weights[row] * share
                    opened += share
            offset_slope[row] -= opened
