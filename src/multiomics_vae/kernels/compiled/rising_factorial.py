"""Ratios of gamma functions in a loop; the mathematics is that of `kernels.rising_factorial`."""

from __future__ import annotations

from typing import Any

import numpy as np

from multiomics_vae.kernels.compiled.arithmetic import log_of, log_of_one_more
from multiomics_vae.kernels.compiled.compile import inlined_formula
from multiomics_vae.kernels.rising_factorial import DIGAMMA_SERIES, LOG_GAMMA_SERIES

A0, A1, A2 = (np.float32(number) for number in LOG_GAMMA_SERIES[:3])
D0, D1, D2 = (np.float32(number) for number in DIGAMMA_SERIES[:3])
HALF, ONE, TWO, THREE, FOUR = (np.float32(number) for number in (0.5, 1.0, 2.0, 3.0, 4.0))


@inlined_formula
def log_rising_factorial(count: Any, base: Any) -> Any:
    """Log Γ(a + k) − log Γ(a), and its derivative by log a, for k ≥ 0 and a > 0."""
    end = base + count
    harmonic = ONE / end
    ratio = base * harmonic
    # Written out: a loop in here would keep the loop over entries from using vector instructions.
    factor, inverse = base + ONE, ONE / (end + ONE)
    ratio *= factor * inverse
    harmonic += inverse / factor * base
    factor, inverse = base + TWO, ONE / (end + TWO)
    ratio *= factor * inverse
    harmonic += inverse / factor * base
    factor, inverse = base + THREE, ONE / (end + THREE)
    ratio *= factor * inverse
    harmonic += inverse / factor * base
    start, end = base + FOUR, end + FOUR
    one_start, one_end = ONE / start, ONE / end
    square_start, square_end = one_start * one_start, one_end * one_end
    growth = log_of_one_more(count * one_start)
    value = (end - HALF) * growth + count * log_of(start) - count + log_of(ratio)
    value += one_end * (A0 + square_end * (A1 + square_end * A2))
    value -= one_start * (A0 + square_start * (A1 + square_start * A2))
    slope = growth + HALF * count * one_start * one_end
    slope -= square_end * (D0 + square_end * (D1 + square_end * D2))
    slope += square_start * (D0 + square_start * (D1 + square_start * D2))
    return value, base * slope + count * harmonic
