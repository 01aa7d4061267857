"""Numbers that are hidden at random, by a generator that every entry works out for itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiomics_vae.kernels.compiled.compile import compiled_loop
from multiomics_vae.kernels.compiled.random_words import random_word


@compiled_loop
def hide_numbers(
    values: NDArray[np.float32],
    first: int,
    seeds: tuple[np.uint32, np.uint32],
    below: np.uint32,
    scale: np.float32,
    out: NDArray[np.float32],
) -> None:
    """Write 0 where an entry's random number is below a bound, and a multiple of the entry elsewhere.

    Parameters
    ----------
    values
        ``(n,)``.
    first
        Position of the first of them.
    seeds
        Any two numbers.
    below
        Entries with a smaller number, of 2³², are hidden.
    scale
        What the others are multiplied with.
    out
        Written, ``(n,)``.
    """
    start, middle = seeds
    for e in range(len(values)):
        x = random_word(first + e, start, middle)
        out[e] = values[e] * scale if x >= below else np.float32(0)
