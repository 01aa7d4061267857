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


@dataclass(frozen=True, eq=False)
class HeldOutScores:
    """How badly held-out rows fitted, from which the threshold of any level follows.

    Parameters
    ----------
    scores
        Rising, ``(n,)``.
    mass
        Share of new rows that are promised to be at or below each, ``(n,)``: k/(n + 1) for single rows. Of
        rows in G groups every group has 1/(G + 1), shared by its rows (Lee et al. 2023), so the promise is
        about a row of a new group.
    n_groups
        Groups, or rows where there are none.
    """

    scores: np.ndarray
    mass: np.ndarray
    n_groups: int

    @classmethod
    def of(cls, scores: np.ndarray, groups: np.ndarray | None = None) -> HeldOutScores:
        """From the scores of held-out rows, ``(n,)``, and the group (donor) of each.

        Examples
        --------
        >>> HeldOutScores.of(np.array([3.0, 1.0, 2.0]), np.array(["a", "a", "b"])).mass.round(3).tolist()
        [0.167, 0.5, 0.667]
        """
        order = np.argsort(scores, kind="stable")
        member = np.arange(len(scores)) if groups is None else np.unique(groups, return_inverse=True)[1]
        sizes = np.bincount(member) if len(member) else np.empty(0)
        weights = 1.0 / ((len(sizes) + 1.0) * sizes[member[order]]) if len(member) else np.empty(0)
        return cls(np.asarray(scores, dtype=np.float64)[order], np.cumsum(weights), len(sizes))

    def threshold(self, level: float) -> float:
        """The smallest score with at least this mass; infinite where the mass does not suffice."""
        place = int(np.searchsorted(self.mass, level - 1e-9))
        return float(self.scores[place]) if place < len(self.scores) else float("inf")


def conformal_quantile(scores: np.ndarray, level: float, groups: np.ndarray | None = None) -> float:
    """The ⌈(n + 1) · level⌉-th smallest score; infinite if there are fewer than that.

    Parameters
    ----------
    scores
        How badly each held-out row fits, ``(n,)``.
    level
        Promised coverage, in (0, 1).
    groups
        Donor of each row, where several rows are of one and the promise is about new donors.

    Examples
    --------
    >>> conformal_quantile(np.arange(1.0, 20.0), 0.9)
    18.0
    >>> conformal_quantile(np.arange(1.0, 6.0), 0.9)
    inf
    """
    return HeldOutScores.of(scores, groups).threshold(level)


def fewest_rows(level: float) -> int:
    """Held-out rows (or donors) from which on a set can leave a class out: least n with n/(n + 1) ≥ level.

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
    scores = class_scores(codes, probabilities)
    return ConformalClasses(conformal_quantile(scores, level), level, len(scores), ordinal)


def class_scores(codes: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """1 − p of the true class, ``(n,)``."""
    own = np.take_along_axis(probabilities, np.asarray(codes, dtype=np.int64)[:, None], 1)[:, 0]
    return np.asarray(1.0 - own)


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
