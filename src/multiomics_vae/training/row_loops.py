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

from multiomics_vae.kernels.compiled.compile import compiled_loop
from multiomics_vae.training.waiting_table import DRIFT, KEEP, LAG, MEAN, SHRINK, SQUARE, TAKE

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
def step_rows(
    weight: Floats,
    average: Floats,
    mean: Floats,
    square: Floats,
    rows: Numbers,
    gradient: Floats,
    beta_mean: np.float32,
    beta_square: np.float32,
    rate: np.float32,
    shrink: np.float32,
    epsilon: np.float32,
    decay: np.float32,
) -> None:
    """One step of AdamW on rows that are up to date, and of the average.

    ``gradient`` is ``(n, H)``; ``rate`` is lr √(1 − β₂^t) / (1 − β₁^t), ``shrink`` 1 − lr · weight decay.
    """
    one = np.float32(1)
    for r in range(len(rows)):
        row = rows[r]
        for h in range(weight.shape[1]):
            g = gradient[r, h]
            mean[row, h] += (one - beta_mean) * (g - mean[row, h])
            square[row, h] = beta_square * square[row, h] + (one - beta_square) * g * g
            pull = mean[row, h] / (np.sqrt(square[row, h]) + epsilon)
            weight[row, h] = shrink * weight[row, h] - rate * pull
            average[row, h] += (one - decay) * (weight[row, h] - average[row, h])
