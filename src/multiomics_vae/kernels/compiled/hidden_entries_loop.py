"""Numbers that are hidden at random, by a generator that every entry works out for itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiomics_vae.kernels.compiled.compile import compiled_loop


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

    An entry's number is its position, multiplied and shifted over itself twice ("lowbias32", found by Chris
    Wellons by search for the least bias, 2018), with a seed before each of the two. No entry waits for the
    one before it, so a processor does many at once.

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
        x = np.uint32(np.uint32(np.uint32(first + e) * np.uint32(0x9E3779B1)) ^ start)
        x = np.uint32(x ^ (x >> np.uint32(16)))
        x = np.uint32(x * np.uint32(0x7FEB352D))
        x = np.uint32(x ^ (x >> np.uint32(15)) ^ middle)
        x = np.uint32(x * np.uint32(0x846CA68B))
        x = np.uint32(x ^ (x >> np.uint32(16)))
        out[e] = values[e] * scale if x >= below else np.float32(0)
