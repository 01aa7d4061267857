"""Split-conformal predictions: sets of classes, or intervals, that hold the truth as often as they say.

The promise is for a new row that is exchangeable with the held-out ones: P(truth inside) ≥ level, on average
over both, whatever the model (Vovk et al. 2005). It is a promise about the average row, not about each kind
of row, and for donors it needs held-out donors: rows of the same donor are one piece of evidence, not many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ConformalClasses:
    """Sets of classes.

    Parameters
    ----------
    threshold
        Largest 1 − p that is still inside; infinite where too few rows were held out, and then every set
        holds every class.
    level
        Promised share of sets that hold the truth.
    n
        Held-out rows.
    contiguous
        Fill gaps between classes that are inside, for ordered classes.
    """

    threshold: float
    level: float
    n: int
    contiguous: bool = False

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """Which class is in the set of each row, ``(n, K)``, bool; none where no class is likely enough."""
        inside = 1.0 - probabilities <= self.threshold  # (n, K)
        if not self.contiguous:
            return inside
        started = np.maximum.accumulate(inside, axis=1)
        not_over = np.maximum.accumulate(inside[:, ::-1], axis=1)[:, ::-1]
        return started & not_over


@dataclass(frozen=True)
class ConformalInterval:
    """Intervals mean ± q · sd.

    Parameters
    ----------
    multiplier
        q; infinite where too few rows were held out.
    level, n
        As in `ConformalClasses`.
    """

    multiplier: float
    level: float
    n: int

    def ends(self, mean: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end, ``(n,)`` each."""
        return mean - self.multiplier * sd, mean + self.multiplier * sd


def conformal_quantile(scores: np.ndarray, level: float) -> float:
    """The ⌈(n + 1) · level⌉-th smallest score; infinite if there are fewer than that.

    Parameters
    ----------
    scores
        How badly each held-out row fits, ``(n,)``.
    level
        Promised coverage, in (0, 1).

    Examples
    --------
    >>> conformal_quantile(np.arange(1.0, 20.0), 0.9)
    18.0
    >>> conformal_quantile(np.arange(1.0, 6.0), 0.9)
    inf
    """
    rank = int(np.ceil((len(scores) + 1) * level - 1e-9))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else float("inf")


def fewest_rows(level: float) -> int:
    """Held-out rows from which on a set can leave a class out: the least n with ⌈(n + 1) · level⌉ ≤ n.

    Examples
    --------
    >>> fewest_rows(0.9)
    9
    """
    return int(np.ceil(level / (1.0 - level) - 1e-9))


def conformal_classes(
    codes: np.ndarray, probabilities: np.ndarray, *, level: float = 0.9, ordinal: bool = False
) -> ConformalClasses:
    """Least ambiguous sets (Sadinle et al. 2019): all classes with p ≥ 1 − q, q from the p of true classes.

    Of all sets with the same coverage these are the smallest on average. Where no class is likely enough
    the set is empty: putting in the best guess would turn the least certain rows into certain answers.

    Parameters
    ----------
    codes
        True classes of held-out rows, ``(n,)``.
    probabilities
        ``(n, K)``.
    level
        Promised coverage.
    ordinal
        Make sets contiguous; that only adds classes, so the promise stands.

    Examples
    --------
    >>> p = np.array([[0.9, 0.1]] * 9)
    >>> conformal_classes(np.zeros(9), p).sets(np.array([[0.6, 0.4], [0.95, 0.05]])).tolist()
    [[False, False], [True, False]]
    """
    own = np.take_along_axis(probabilities, np.asarray(codes, dtype=np.int64)[:, None], 1)[:, 0]
    return ConformalClasses(conformal_quantile(1.0 - own, level), level, len(own), ordinal)


def conformal_interval(
    truth: np.ndarray, mean: np.ndarray, sd: np.ndarray, *, level: float = 0.9
) -> ConformalInterval:
    """Intervals from |truth − mean| / sd of held-out rows.

    Parameters
    ----------
    truth, mean, sd
        Of held-out rows, ``(n,)``.
    level
        Promised coverage.
    """
    return ConformalInterval(conformal_quantile(np.abs(truth - mean) / sd, level), level, len(truth))


def abstains(sets: np.ndarray) -> np.ndarray:
    """True where a set is not a single class, ``(n,)``: the evidence does not suffice for one answer."""
    return np.asarray(sets.sum(1) != 1)
