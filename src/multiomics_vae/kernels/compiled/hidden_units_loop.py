"""Layer normalisation, ReLU and dropout of hidden units in one pass over them, and the way back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiomics_vae.kernels.compiled.bits import prefer_wide_vectors
from multiomics_vae.kernels.compiled.compile import compiled_loop
from multiomics_vae.kernels.compiled.random_words import random_word

Floats = NDArray[np.float32]


@compiled_loop
def write_units(
    x: Floats,
    weight: Floats,
    bias: Floats,
    epsilon: np.float32,
    seeds: tuple[np.uint32, np.uint32],
    below: np.uint32,
    scale: np.float32,
    out: Floats,
    mean: Floats,
    inverse_deviation: Floats,
) -> None:
    """Normalise, cut off below 0 and hide at random.

    Parameters
    ----------
    x
        ``(B, H)``.
    weight, bias
        Of the normalised units, ``(H,)``.
    epsilon
        Added to variances.
    seeds
        Any two numbers.
    below
        Units with a smaller random number, of 2³², are hidden; 0 hides none.
    scale
        What the others are multiplied with.
    out
        Written, ``(B, H)``.
    mean, inverse_deviation
        Written, of each row, ``(B,)``.
    """
    prefer_wide_vectors()
    n_rows, n_units = x.shape
    nothing, n = np.float32(0), np.float32(n_units)
    start, middle = seeds
    for r in range(n_rows):
        row, written = x[r], out[r]
        total = nothing
        for h in range(n_units):
            total += row[h]
        center, squares = total / n, nothing
        for h in range(n_units):
            squares += (row[h] - center) * (row[h] - center)
        inverse = np.float32(1) / np.sqrt(squares / n + epsilon)
        for h in range(n_units):
            y = (row[h] - center) * inverse * weight[h] + bias[h]
            # A comparison that is false for not-a-number lets it pass.
            written[h] = nothing if y <= nothing else y * scale
        if below > 0:
            for h in range(n_units):
                word = random_word(r * n_units + h, start, middle)
                written[h] = written[h] if word >= below else nothing
        mean[r], inverse_deviation[r] = center, inverse


@compiled_loop
def write_gradients(
    x: Floats,
    weight: Floats,
    out: Floats,
    mean: Floats,
    inverse_deviation: Floats,
    scale: np.float32,
    upstream: Floats,
    by_x: Floats,
    by_weight: Floats,
    by_bias: Floats,
) -> None:
    """Gradients of what `write_units` has made of its arguments.

    With n = (x − mean) / deviation and g the gradient by n, that by x is
    (g − average of g − n · average of g n) / deviation.

    Parameters
    ----------
    x, weight, out, mean, inverse_deviation, scale
        As for `write_units`; units that are 0 in ``out`` were cut off or hidden.
    upstream
        Gradient by ``out``, ``(B, H)``.
    by_x
        Written, ``(B, H)``.
    by_weight, by_bias
        Written, ``(H,)``.
    """
    prefer_wide_vectors()
    n_rows, n_units = x.shape
    nothing, n = np.float32(0), np.float32(n_units)
    by_weight[:] = nothing
    by_bias[:] = nothing
    for r in range(n_rows):
        row, shown, given, written = x[r], out[r], upstream[r], by_x[r]
        center, inverse = mean[r], inverse_deviation[r]
        average, slope = nothing, nothing
        for h in range(n_units):
            normalised = (row[h] - center) * inverse
            by_y = nothing if shown[h] == nothing else given[h] * scale
            by_weight[h] += by_y * normalised
            by_bias[h] += by_y
            by_normalised = by_y * weight[h]
            written[h] = by_normalised
            average += by_normalised
            slope += by_normalised * normalised
        average, slope = average / n, slope / n
        for h in range(n_units):
            written[h] = inverse * (written[h] - average - (row[h] - center) * inverse * slope)
