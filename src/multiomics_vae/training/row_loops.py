"""AdamW and the average of weights on single rows of a matrix, as compiled loops over their entries.

Names of the arguments that the loops share:

``weight``, ``average``, ``mean``, ``square``
    A matrix, its moving average, and Adam's two moments, ``(F, H)``.
``rows``
    The rows concerned, each once, ``(n,)``, int64.
``age``
    Steps that have gone by since a row was last written, ``(F,)``, int64.
``table``
    What so many steps without a gradient do, ``(7, most steps + 1)``: `WaitingTable.values`.
``epsilon``
    Adam's, times √(1 − β₂^t).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiomics_vae.kernels.compiled.bits import narrowed, prefetch, widened
from multiomics_vae.kernels.compiled.compile import compiled_loop
from multiomics_vae.training.waiting_table import DRIFT, KEEP, LAG, MEAN, SHRINK, SQUARE, TAKE

AHEAD = 2  # rows that lie far apart are asked for so early
IN_LINE = 16  # numbers in a line of the cache

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


@compiled_loop
def catch_up(
    weight: Floats,
    average: Floats,
    mean: Floats,
    square: Floats,
    rows: Numbers,
    age: Numbers,
    table: NDArray[np.float64],
    epsilon: np.float32,
) -> None:
    """Write what some rows have become by now, without a gradient since they were last written."""
    for r in range(len(rows)):
        row = rows[r]
        if age[row] == 0:
            continue
        of_mean, of_square = np.float32(table[MEAN, age[row]]), np.float32(table[SQUARE, age[row]])
        drift, shrink = np.float32(table[DRIFT, age[row]]), np.float32(table[SHRINK, age[row]])
        keep, take = np.float32(table[KEEP, age[row]]), np.float32(table[TAKE, age[row]])
        lag = np.float32(table[LAG, age[row]])
        for h in range(weight.shape[1]):
            pull = mean[row, h] / (np.sqrt(square[row, h]) + epsilon)
            average[row, h] = keep * average[row, h] + take * weight[row, h] - lag * pull
            weight[row, h] = shrink * weight[row, h] - drift * pull
            mean[row, h] *= of_mean
            square[row, h] *= of_square
        age[row] = 0


@compiled_loop
def current_rows(
    weight: Floats,
    mean: Floats,
    square: Floats,
    rows: Numbers,
    age: Numbers,
    table: NDArray[np.float64],
    epsilon: np.float32,
    out: Floats,
) -> None:
    """Write to ``out``, ``(n, H)``, what the weights of some rows have become; nothing else is changed."""
    for r in range(len(rows)):
        row = rows[r]
        drift, shrink = np.float32(table[DRIFT, age[row]]), np.float32(table[SHRINK, age[row]])
        ahead = rows[min(r + AHEAD, len(rows) - 1)]
        for h in range(0, weight.shape[1], IN_LINE):
            prefetch(weight, ahead, h)
            prefetch(mean, ahead, h)
            prefetch(square, ahead, h)
        w, m, v, o = weight[row], mean[row], square[row], out[r]
        for h in range(len(w)):
            o[h] = shrink * w[h] - drift * (m[h] / (np.sqrt(v[h]) + epsilon))


@compiled_loop
def step_rows(
    weight: Floats,
    average: Floats,
    mean: Floats,
    square: Floats,
    rows: Numbers,
    age: Numbers,
    table: NDArray[np.float64],
    epsilon_before: np.float32,
    current: Floats,
    gradient: Floats,
    beta_mean: np.float32,
    beta_square: np.float32,
    rate: np.float32,
    shrink: np.float32,
    epsilon: np.float32,
    decay: np.float32,
) -> np.float64:
    """Make up for the steps that some rows have missed, then one step of AdamW and of the average.

    ``epsilon_before`` is that of the steps missed; ``current`` holds the weights after them, from
    `current_rows`, and ``gradient`` is by these, both ``(n, H)``; ``rate`` is lr √(1 − β₂^t) / (1 − β₁^t),
    ``shrink`` 1 − lr · weight decay. Returns Σ gradient².
    """
    one, total = np.float32(1), np.float64(0)
    pull = np.empty(weight.shape[1], np.float32)
    # Short loops over few arrays: with more, the compiler cannot tell that they lie apart.
    for r in range(len(rows)):
        row = rows[r]
        of_mean, of_square = np.float32(table[MEAN, age[row]]), np.float32(table[SQUARE, age[row]])
        keep, take = np.float32(table[KEEP, age[row]]), np.float32(table[TAKE, age[row]])
        lag = np.float32(table[LAG, age[row]])
        ahead = rows[min(r + AHEAD, len(rows) - 1)]
        for h in range(0, weight.shape[1], IN_LINE):
            prefetch(weight, ahead, h)
            prefetch(average, ahead, h)
            prefetch(mean, ahead, h)
            prefetch(square, ahead, h)
        w, a, m, v, g, c = weight[row], average[row], mean[row], square[row], gradient[r], current[r]
        squares = np.float32(0)
        for h in range(len(pull)):
            pull[h] = m[h] / (np.sqrt(v[h]) + epsilon_before)
        for h in range(len(pull)):
            a[h] = keep * a[h] + take * w[h] - lag * pull[h]
        for h in range(len(pull)):
            squares += g[h] * g[h]
            m[h] = of_mean * m[h] + (one - beta_mean) * (g[h] - of_mean * m[h])
        for h in range(len(pull)):
            v[h] = beta_square * (of_square * v[h]) + (one - beta_square) * g[h] * g[h]
        for h in range(len(pull)):
            pull[h] = m[h] / (np.sqrt(v[h]) + epsilon)
        for h in range(len(pull)):
            w[h] = shrink * c[h] - rate * pull[h]
        for h in range(len(pull)):
            a[h] += (one - decay) * (w[h] - a[h])
        age[row] = 0
        total += np.float64(squares)
    return total


@compiled_loop
def step_whole(
    weight: Floats,
    average: Floats,
    mean: Floats,
    square: Floats,
    gradient: Floats | NDArray[np.uint16],
    rounded: NDArray[np.uint16] | None,
    beta_mean: np.float32,
    beta_square: np.float32,
    rate: np.float32,
    shrink: np.float32,
    epsilon: np.float32,
    decay: np.float32,
) -> np.float64:
    """One step of AdamW and of the average on entries in a row, ``(n,)``; arguments as for `step_rows`.

    The gradient may also be in bfloat16, as uint16. ``rounded``, ``(n,)``, becomes the weight in bfloat16, as
    uint16; None for no copy.
    """
    one, squares = np.float32(1), np.float32(0)
    for i in range(len(weight)):
        g = widened(gradient[i])
        squares += g * g
        m = mean[i] + (one - beta_mean) * (g - mean[i])
        v = beta_square * square[i] + (one - beta_square) * g * g
        now = shrink * weight[i] - rate * (m / (np.sqrt(v) + epsilon))
        weight[i], mean[i], square[i] = now, m, v
        average[i] += (one - decay) * (now - average[i])
        if rounded is not None:
            rounded[i] = narrowed(now, rounded)
    return np.float64(squares)
