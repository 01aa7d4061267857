"""Random numbers that every place works out for itself, so that a processor makes many at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from multiomics_vae.kernels.compiled.compile import compiled_formula


@compiled_formula
def random_word(place: Any, start: Any, middle: Any) -> Any:
    """A number from 0 to 2³² − 1 that depends on a place and two seeds.

    The place, multiplied and shifted over itself twice ("lowbias32", found by Chris Wellons by search for the
    least bias, 2018), with a seed before each of the two.
    """
    x = np.uint32(np.uint32(np.uint32(place) * np.uint32(0x9E3779B1)) ^ start)
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ (x >> np.uint32(15)) ^ middle)
    x = np.uint32(x * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))
