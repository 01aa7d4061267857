"""Whether what is said to happen in three of ten cases happens in three of ten."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predicted against observed shares.

    Parameters
    ----------
    table
        A row a bin that holds something: ``low``, ``high`` (ends), ``n``, ``predicted`` (mean),
        ``observed`` (share), ``lower``, ``upper`` (Wilson interval of the share).
    expected_calibration_error
        Σ n_b / n · |observed_b − predicted_b| (Naeini et al. 2015). Above 0 also for a calibrated model,
        by about √(p(1 − p)/n_b) a bin: read it beside the intervals.
    level
        Of the intervals.
    """

    table: pd.DataFrame
    expected_calibration_error: float
    level: float


def reliability(
    has: np.ndarray, probability: np.ndarray, *, n_bins: int = 10, level: float = 0.95, equal: str = "mass"
) -> Reliability:
    """Bin probabilities and compare each bin's mean with what came true.

    Parameters
    ----------
    has
        What came true, ``(n,)``, bool or 0/1.
    probability
        Of its coming true, ``(n,)``.
    n_bins
        At most so many bins.
    level
        Of the Wilson intervals.
    equal
        ``"mass"``: bins of equal numbers, with equal probabilities never parted; ``"width"``: of equal width.

    Examples
    --------
    >>> reliability(np.array([0, 1]), np.array([0.5, 0.5])).expected_calibration_error
    0.0
    """
    truth, probability = np.asarray(has, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    if equal == "mass":
        shares = np.arange(1, n_bins if len(truth) else 1) / n_bins
        edges = np.concatenate([[0.0], np.unique(np.quantile(probability, shares)), [1.0]])
    else:
        edges = np.linspace(0.0, 1.0, n_bins + 1)
    place = np.clip(np.searchsorted(edges, probability, side="left") - 1, 0, len(edges) - 2)
    rows = []
    for b in np.unique(place):
        inside = place == b
        n, hits = int(inside.sum()), float(truth[inside].sum())
        lower, upper = wilson_interval(hits, n, level)
        rows.append((edges[b], edges[b + 1], n, probability[inside].mean(), hits / n, lower, upper))
    columns = ["low", "high", "n", "predicted", "observed", "lower", "upper"]
    table = pd.DataFrame(rows, columns=columns)
    gap = (table["n"] * (table["observed"] - table["predicted"]).abs()).sum()
    return Reliability(table, float(gap / len(truth)) if len(truth) else float("nan"), level)


def top_label_reliability(
    codes: np.ndarray, probabilities: np.ndarray, *, n_bins: int = 10, level: float = 0.95
) -> Reliability:
    """`reliability` of the largest probability: is the best guess right as often as it says.

    Parameters
    ----------
    codes
        Class of each, ``(n,)``.
    probabilities
        ``(n, K)``.
    n_bins, level
        As in `reliability`.
    """
    right = probabilities.argmax(1) == codes
    return reliability(right, probabilities.max(1), n_bins=n_bins, level=level)


def wilson_interval(hits: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share of n (Wilson 1927), which also holds for shares near 0 and 1.

    Examples
    --------
    >>> tuple(round(end, 3) for end in wilson_interval(0, 10))
    (0.0, 0.278)
    """
    if n == 0:
        return 0.0, 1.0
    z2 = float(norm.ppf((1.0 + level) / 2.0)) ** 2
    middle = (hits + z2 / 2.0) / (n + z2)
    half = np.sqrt(z2 * (hits * (n - hits) / n + z2 / 4.0)) / (n + z2)
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))
