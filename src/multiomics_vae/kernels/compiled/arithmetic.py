"""Exponentials and logarithms in float32 that a loop can use on many entries at once.

The functions of the C library work on one number at a time; these are polynomials, whose relative error is
below 3e-7.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from multiomics_vae.kernels.compiled.bits import bits_of, from_bits
from multiomics_vae.kernels.compiled.compile import compiled_formula

LOG2_E = np.float32(1.0 / math.log(2.0))
LN_2_HIGH, LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # Cephes: their sum is log 2
ROUNDER, BITS_OF_ONE = np.float32(1.5 * 2**23), np.int32(0x3F800000)
LOWEST_OF_EXP = np.float32(-87.0)
ONE, HALF = np.float32(1.0), np.float32(0.5)
SQRT_HALF_BITS, MANTISSA_BITS, MANTISSA = np.int32(0x3F3504F3), np.int32(23), np.int32(0x7FFFFF)
# exp(f) = 1 + f + f² P(f) for |f| ≤ ½ log 2 (Cephes, expf).
P0, P1, P2 = np.float32(5.0000001201e-1), np.float32(1.6666665459e-1), np.float32(4.1665795894e-2)
P3, P4, P5 = np.float32(8.3334519073e-3), np.float32(1.3981999507e-3), np.float32(1.9875691500e-4)
# log(1 + f) = f − f²/2 + f³ Q(f) for √½ − 1 ≤ f ≤ √2 − 1 (Cephes, logf).
Q0, Q1, Q2 = np.float32(3.3333331174e-1), np.float32(-2.4999993993e-1), np.float32(2.0000714765e-1)
Q3, Q4, Q5 = np.float32(-1.6668057665e-1), np.float32(1.4249322787e-1), np.float32(-1.2420140846e-1)
Q6, Q7, Q8 = np.float32(1.1676998740e-1), np.float32(-1.1514610310e-1), np.float32(7.0376836292e-2)
# log(1 + u) = u R(u) for 0 ≤ u ≤ 1, interpolated at Chebyshev's points.
R0, R1, R2 = np.float32(9.9999997e-1), np.float32(-4.9999445e-1), np.float32(3.3318122e-1)
R3, R4, R5 = np.float32(-2.4835399e-1), np.float32(1.9076881e-1), np.float32(-1.3602248e-1)
R6, R7, R8 = np.float32(7.751609e-2), np.float32(-2.907406e-2), np.float32(5.1261e-3)


@compiled_formula
def exp_of(x: Any) -> Any:
    """exp(x) for x ≤ 88; no less than exp(−87)."""
    # A comparison that is false for not-a-number lets it pass.
    x = LOWEST_OF_EXP if x < LOWEST_OF_EXP else x
    # Added to so large a number, another is rounded to a whole one, which the last bits of the sum spell.
    spelt = x * LOG2_E + ROUNDER
    whole = spelt - ROUNDER
    f = (x - whole * LN_2_HIGH) - whole * LN_2_LOW
    p = P4 + f * P5
    p = P3 + f * p
    p = P2 + f * p
    p = P1 + f * p
    p = P0 + f * p
    power = from_bits((bits_of(spelt) << MANTISSA_BITS) + BITS_OF_ONE)  # two to the whole number
    return ((f * f) * p + f + ONE) * power


@compiled_formula
def log_of(x: Any) -> Any:
    """Log x for a normal x > 0."""
    shifted = bits_of(x) - SQRT_HALF_BITS
    exponent = np.float32(shifted >> MANTISSA_BITS)
    f = from_bits((shifted & MANTISSA) + SQRT_HALF_BITS) - ONE
    square = f * f
    p = Q7 + f * Q8
    p = Q6 + f * p
    p = Q5 + f * p
    p = Q4 + f * p
    p = Q3 + f * p
    p = Q2 + f * p
    p = Q1 + f * p
    p = Q0 + f * p
    low = f * square * p + exponent * LN_2_LOW - HALF * square
    return (f + low) + exponent * LN_2_HIGH


@compiled_formula
def log_of_one_to_two(u: Any) -> Any:
    """log(1 + u) for 0 ≤ u ≤ 1."""
    p = R7 + u * R8
    p = R6 + u * p
    p = R5 + u * p
    p = R4 + u * p
    p = R3 + u * p
    p = R2 + u * p
    p = R1 + u * p
    return u * (R0 + u * p)


@compiled_formula
def log_of_one_more(x: Any) -> Any:
    """log(1 + x) for x ≥ 0."""
    one_more = ONE + x
    # What was rounded off in the sum is a relative error of its logarithm's argument.
    return log_of(one_more) + (x - (one_more - ONE)) / one_more
