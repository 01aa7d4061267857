"""Intervals of a score by drawing donors anew, because donors and not cells are what was sampled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# A score that most draws cannot give (one class only, no pair to compare) has no interval.
FEWEST_VALID = 0.5


@dataclass(frozen=True)
class Interval:
    """A value with its percentile bootstrap interval.

    Parameters
    ----------
    value
        Of the sample itself.
    low, high
        Ends; NaN where too few draws gave a value.
    level
        Nominal coverage.
    n
        Units (donors) that were drawn from.
    """

    value: float
    low: float
    high: float
    level: float
    n: int

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.value:.3f} (no interval)"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float],
    n: int,
    generator: np.random.Generator,
    *,
    level: float = 0.95,
    n_draws: int = 1000,
) -> Interval:
    """Percentile interval of a statistic over units drawn with replacement (Efron 1979).

    Parameters
    ----------
    statistic
        From positions of units, ``(n,)`` with repeats, to a number; NaN where it is not defined.
    n
        Units: donors where a donor has several rows.
    generator
        Of the draws.
    level, n_draws
        Nominal coverage, bootstrap samples.

    Examples
    --------
    >>> x = np.arange(10.0)
    >>> bootstrap_interval(lambda i: float(x[i].mean()), 10, np.random.default_rng(0)).value
    4.5
    """
    value = statistic(np.arange(n))
    draws = bootstrap_draws(statistic, n, generator, n_draws)
    low, high = percentile_ends(draws, level)
    return Interval(value, low, high, level, n)


def bootstrap_draws(
    statistic: Callable[[np.ndarray], float], n: int, generator: np.random.Generator, n_draws: int
) -> np.ndarray:
    """The statistic of every bootstrap sample, ``(n_draws,)``."""
    return np.array([statistic(generator.integers(n, size=n)) for _ in range(n_draws if n else 0)])


def percentile_ends(draws: np.ndarray, level: float) -> tuple[float, float]:
    """Ends of the central interval; NaN if fewer than half of the draws are defined."""
    defined = draws[np.isfinite(draws)]
    if len(defined) == 0 or len(defined) < FEWEST_VALID * len(draws):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)
