"""Ratios of gamma functions without loss of digits, from elementary functions only."""

from __future__ import annotations

import torch
from torch import Tensor

# Coefficients of Stirling's series B_2k / (2k (2k − 1)) and of its derivative B_2k / 2k.
LOG_GAMMA_SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
DIGAMMA_SERIES = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760)


def log_rising_factorial(count: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the rising factorial, log Γ(a + k) − log Γ(a), and its derivative by log a.

    Γ is moved n steps up by its recurrence, where Stirling's series converges:
    log Γ(a + k) − log Γ(a) = log Π_j (a + j)/(a + k + j) + (e − ½) log(1 + k/c) + k log c − k
    + s(e) − s(c), with c = a + n, e = c + k, j < n (Abramowitz & Stegun 6.1.15 and 6.1.41). No two
    large numbers are subtracted, so a large ``a`` costs no digits; and digamma, which is slow, is not
    needed. The series are cut below 1e-7 in float32 (n = 4), 1e-15 in float64 (n = 10).

    Parameters
    ----------
    count
        k ≥ 0, any shape; need not be whole.
    base
        a > 0, of the same shape.

    Returns
    -------
    tuple of Tensor
        The value, and a (ψ(a + k) − ψ(a)); both of the same shape.

    Examples
    --------
    >>> log_rising_factorial(torch.tensor(3.0), torch.tensor(2.0))[0].exp()  # 2 · 3 · 4
    tensor(24.0000)
    """
    n_steps, n_terms = (10, 6) if base.dtype == torch.float64 else (4, 3)
    end = base + count
    ratio, harmonic = torch.ones_like(base), torch.zeros_like(base)
    for step in range(n_steps):
        factor, inverse = base + step, 1.0 / (end + step)
        ratio.mul_(factor * inverse)
        # The step j = 0 is k/(a + k) once multiplied by a; kept apart, a tiny ``a`` cannot overflow.
        harmonic.add_(inverse / factor * base if step else inverse)
    start, end = base + n_steps, end + n_steps
    growth = torch.log1p(count / start)
    one_start, one_end = start.reciprocal(), end.reciprocal()
    square_start, square_end = one_start.square(), one_end.square()
    value = (end - 0.5) * growth + count * start.log() - count + ratio.log()
    value += one_end * _polynomial(square_end, LOG_GAMMA_SERIES[:n_terms])
    value -= one_start * _polynomial(square_start, LOG_GAMMA_SERIES[:n_terms])
    digamma_difference = growth + 0.5 * count * one_start * one_end
    digamma_difference -= square_end * _polynomial(square_end, DIGAMMA_SERIES[:n_terms])
    digamma_difference += square_start * _polynomial(square_start, DIGAMMA_SERIES[:n_terms])
    return value, base * digamma_difference + count * harmonic


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    result = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result.mul_(x).add_(coefficient)
    return result
