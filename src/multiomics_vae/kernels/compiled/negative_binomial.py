"""The negative binomial cost and its slopes by the log mean and by log θ, block by block."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from multiomics_vae.kernels.compiled.arithmetic import exp_of, log_of_one_more, log_of_one_to_two
from multiomics_vae.kernels.compiled.bits import prefer_wide_vectors
from multiomics_vae.kernels.compiled.compile import compiled_loop
from multiomics_vae.kernels.compiled.rising_factorial import log_rising_factorial

COUNTS_IN_TABLE = 4  # 0 … 3, as nearly all counts of a single cell are
LOG_2, LOG_3 = np.float32(math.log(2.0)), np.float32(math.log(3.0))
ENTRIES_IN_TILE = 4096
FEATURES_IN_SUM = 64  # so many terms are added in float32 before the sum goes to float64


@compiled_loop
def fill_table(
    log_dispersion: NDArray[np.float32], dispersion: NDArray[np.float32], table: NDArray[np.float32]
) -> None:
    """Write what `constant_terms` says about small counts.

    Parameters
    ----------
    log_dispersion, dispersion
        log θ and θ of n features, ``(n,)``.
    table
        Written, ``(2, COUNTS_IN_TABLE, n)``: costs and slopes of each count.
    """
    prefer_wide_vectors()
    half, one, two = np.float32(0.5), np.float32(1), np.float32(2)
    for i in range(len(dispersion)):
        log_theta, theta = log_dispersion[i], dispersion[i]
        # Γ(3 + θ) / Γ(θ) = θ (1 + θ) (2 + θ); half of its last factor makes up for one factor 2 of 3! = 6.
        second, third = log_of_one_more(theta), log_of_one_more(half * theta)
        second_slope = theta / (one + theta)
        table[0, 0, i], table[1, 0, i] = np.float32(0), np.float32(0)
        table[0, 1, i], table[1, 1, i] = -log_theta, -one
        table[0, 2, i], table[1, 2, i] = LOG_2 - (log_theta + second), -(one + second_slope)
        table[0, 3, i] = LOG_3 - (log_theta + second + third)
        table[1, 3, i] = -(one + second_slope + theta / (two + theta))


@compiled_loop
def constant_terms(
    values: NDArray[np.float32],
    columns: NDArray[np.int64],
    dispersion: NDArray[np.float32],
    table: NDArray[np.float32],
    cost: NDArray[np.float32],
    slope: NDArray[np.float32],
) -> None:
    """What does not depend on the mean: cost log x! − log Γ(x + θ) + log Γ(θ), and its slope by log θ.

    Parameters
    ----------
    values, columns
        Stored entries, ``(nnz,)``.
    dispersion
        θ, ``(F,)``.
    table
        From `fill_table`, ``(2, COUNTS_IN_TABLE, F)``; of no features for none, and every entry is computed.
    cost, slope
        Written, ``(nnz,)``.
    """
    zero, last = np.float32(0), np.float32(COUNTS_IN_TABLE - 1)
    n_features = table.shape[2]
    costs, slopes = table.reshape(2, -1)
    place = np.empty(ENTRIES_IN_TILE, np.uint64)
    is_other = np.empty(ENTRIES_IN_TILE, np.uint8)
    others = np.empty(ENTRIES_IN_TILE, np.int64)
    x, base = np.empty(ENTRIES_IN_TILE, np.float32), np.empty(ENTRIES_IN_TILE, np.float32)
    # Short loops: a look-up keeps the arithmetic of its loop from using vector instructions.
    for start in range(0, len(values), ENTRIES_IN_TILE):
        value, column = values[start : start + ENTRIES_IN_TILE], columns[start : start + ENTRIES_IN_TILE]
        here, by_log = cost[start : start + ENTRIES_IN_TILE], slope[start : start + ENTRIES_IN_TILE]
        n_others = 0
        if n_features:
            for e in range(len(value)):
                # What is no small count, not-a-number too, must not lead out of the table.
                small = value[e] if value[e] <= last else last
                count = np.int32(small if small > zero else zero)
                place[e] = np.uint64(count * n_features + column[e])
                is_other[e] = value[e] != np.float32(count)
            for e in range(len(value)):
                here[e], by_log[e] = costs[place[e]], slopes[place[e]]
            for e in range(len(value)):
                others[n_others] = e
                n_others += is_other[e]
        else:
            n_others = len(value)
            for e in range(n_others):
                others[e] = e
        for i in range(n_others):
            x[i], base[i] = value[others[i]], dispersion[column[others[i]]]
        for i in range(n_others):
            rising, rising_slope = log_rising_factorial(x[i], base[i])
            factorial, _ = log_rising_factorial(x[i], np.float32(1))
            x[i], base[i] = factorial - rising, -rising_slope
        for i in range(n_others):
            here[others[i]], by_log[others[i]] = x[i], base[i]


@compiled_loop
def add_entries(
    logits: NDArray[np.float32],
    highest: NDArray[np.float32],
    rest: NDArray[np.float32],
    log_dispersion: NDArray[np.float32],
    weights: NDArray[np.float32],
    lows: NDArray[np.int64],
    highs: NDArray[np.int64],
    columns: NDArray[np.int64],
    values: NDArray[np.float32],
    constant_cost: NDArray[np.float32],
    constant_slope: NDArray[np.float32],
    first: int,
    cost: NDArray[np.float64],
    slope_sum: NDArray[np.float64],
    slopes: NDArray[np.float32],
    log_dispersion_slope: NDArray[np.float32],
) -> None:
    """Add what the stored entries of a block cost beyond what they would cost as zeros.

    Parameters
    ----------
    logits
        Of n features from ``first`` on, ``(n, R)``; R is a whole number of times B, and the data are
        repeated as often.
    highest, rest
        The log mean is (l − highest) + rest, ``(R,)``.
    log_dispersion
        log θ of the block, ``(n,)``.
    weights
        Of the rows in slopes by the dispersion, ``(R,)``.
    lows, highs
        Where the entries of these features begin and end in each cell, ``(B,)``.
    columns, values
        The data, as in `SparseRows`, B cells.
    constant_cost, constant_slope
        From `constant_terms`, ``(nnz,)``.
    first
        Feature of the first row of ``logits``.
    cost, slope_sum
        Added to: costs, and slopes by the log mean, ``(R,)``.
    slopes
        Written: slope of each entry by the log mean, ``(R / B, nnz)``.
    log_dispersion_slope
        Added to, ``(n,)``.
    """
    prefer_wide_vectors()
    n_rows = logits.shape[1]
    n_cells = len(lows)
    half, one = np.float32(0.5), np.float32(1)
    for cell in range(n_cells):
        low, high = lows[cell], highs[cell]
        for repeat in range(n_rows // n_cells):
            row = repeat * n_cells + cell
            here, column = slopes[repeat, low:high], columns[low:high]
            x, constant, added = values[low:high], constant_cost[low:high], constant_slope[low:high]
            for e in range(len(here)):
                i = column[e] - first
                here[e] = ((logits[i, row] - highest[row]) + rest[row]) - log_dispersion[i]
            total, slope_total = np.float32(0), np.float32(0)
            for e in range(len(here)):
                log_ratio = here[e]
                u = exp_of(-abs(log_ratio))
                inverse = one / (one + u)
                # x σ(−r), and −log σ(r) = log(1 + exp(−|r|)) + max(−r, 0).
                pull = x[e] * (u * inverse if log_ratio > 0 else inverse)
                positive = half * (abs(log_ratio) - log_ratio)
                total += constant[e] + x[e] * (log_of_one_to_two(u) + positive)
                slope_total += pull
                here[e] = -pull
            cost[row] += total
            slope_sum[row] -= slope_total
            for e in range(len(here)):
                log_dispersion_slope[column[e] - first] += weights[row] * (added[e] - here[e])


@compiled_loop
def add_zeros(
    logits: NDArray[np.float32],
    highest: NDArray[np.float32],
    rest: NDArray[np.float32],
    dispersion: NDArray[np.float32],
    weights: NDArray[np.float32],
    cost: NDArray[np.float64],
    slope_sum: NDArray[np.float64],
    log_dispersion_slope: NDArray[np.float32],
) -> None:
    """Add the costs as if all entries of a block were 0, θ log(1 + μ/θ), and put means in place of logits.

    Parameters
    ----------
    logits, highest, rest, weights, cost, slope_sum, log_dispersion_slope
        As for `add_entries`.
    dispersion
        θ of the block, ``(n,)``.
    """
    prefer_wide_vectors()
    n, n_rows = logits.shape
    one = np.float32(1)
    costs = np.zeros(n_rows, np.float32)
    slopes = np.zeros(n_rows, np.float32)
    for i in range(n):
        theta = dispersion[i]
        inverse_theta = one / theta
        of_dispersion = np.float32(0)
        for row in range(n_rows):
            mean = exp_of((logits[i, row] - highest[row]) + rest[row])
            ratio = mean * inverse_theta
            here = theta * log_of_one_more(ratio)
            slope = mean / (one + ratio)
            costs[row] += here
            slopes[row] += slope
            # θ log(1 + μ/θ) scales with (μ, θ) together, so its slopes by log μ and log θ add up to itself.
            of_dispersion += weights[row] * (here - slope)
            logits[i, row] = mean
        log_dispersion_slope[i] += of_dispersion
        if (i + 1) % FEATURES_IN_SUM == 0 or i + 1 == n:
            for row in range(n_rows):
                cost[row] += costs[row]
                slope_sum[row] += slopes[row]
                costs[row] = np.float32(0)
                slopes[row] = np.float32(0)
