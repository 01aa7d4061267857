"""The loop that inverts the distribution function of counts."""

from __future__ import annotations

import math

import numpy as np

from multiomics_vae.kernels.compiled.compile import compiled_loop

NEGLIGIBLE = 1e-18


@compiled_loop
def count_quantile_loop(
    uniform: np.ndarray, log_zero: np.ndarray, start: np.ndarray, slope: np.ndarray, out: np.ndarray
) -> None:
    """Smallest k with F(k) ≥ u, where p(k + 1) / p(k) = (start + slope · k) / (k + 1).

    Poisson counts have start μ and slope 0, negative binomial ones slope q = μ/(μ + θ) and start θ q
    (the class of Panjer 1981).

    Parameters
    ----------
    uniform, log_zero, start, slope
        u, log p(0) and the two numbers of every entry, ``(n,)``, float64.
    out
        Written to, ``(n,)``, float64.
    """
    for i in range(len(uniform)):
        probability = math.exp(log_zero[i])
        total, count = probability, 0.0
        while total < uniform[i]:
            ratio = (start[i] + slope[i] * count) / (count + 1.0)
            probability *= ratio
            total += probability
            count += 1.0
            # Rounding may end the sum below u: past the mode nothing more is to come.
            if ratio < 1.0 and probability < NEGLIGIBLE:
                break
        out[i] = count
