"""Curves of out-of-fold predictions with bands over donors, and groups of patients by predicted risk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from multiomics_vae.analysis.outcomes.bootstrap import percentile_ends
from multiomics_vae.analysis.outcomes.discrimination import precision_recall, roc_curve
from multiomics_vae.analysis.outcomes.kaplan_meier import KaplanMeier, kaplan_meier, log_rank
from multiomics_vae.analysis.outcomes.out_of_fold import OutOfFold
from multiomics_vae.errors import InputError

GRID = np.linspace(0.0, 1.0, 101)
BAND_LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Band:
    """A curve and its pointwise interval.

    Parameters
    ----------
    x, y, low, high
        ``(P,)`` each; the ends are NaN where too few draws of donors give a curve.
    """

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class RiskGroups:
    """Survival of patients, parted by what they were predicted.

    Parameters
    ----------
    names
        From the lowest risk up.
    curves
        Kaplan-Meier, one a group.
    p_value
        Of the log-rank test.
    """

    names: tuple[str, ...]
    curves: tuple[KaplanMeier, ...]
    p_value: float


def roc_band(results: OutOfFold, code: int, generator: np.random.Generator, n_draws: int = 300) -> Band:
    """True against false positive rate of one class against the others, averaged over repeats.

    Parameters
    ----------
    results
        Of an outcome with classes.
    code
        The class.
    generator, n_draws
        Donors are drawn anew for the band.
    """
    return _band(results, generator, n_draws, lambda truth, p: roc_curve(truth == code, p[:, code]).at(GRID))


def precision_recall_band(
    results: OutOfFold, code: int, generator: np.random.Generator, n_draws: int = 300
) -> Band:
    """Precision against recall of one class, as in `roc_band`."""
    return _band(
        results, generator, n_draws, lambda truth, p: precision_recall(truth == code, p[:, code]).at(GRID)
    )


def risk_groups(results: OutOfFold, n_groups: int = 2) -> RiskGroups:
    """Part patients by their risk among those of their fold, averaged over repeats.

    Parameters
    ----------
    results
        Of a survival.
    n_groups
        Groups of about equal size.

    Raises
    ------
    InputError
        If the outcome is no survival.
    """
    if results.kind != "survival":
        raise InputError(f"A {results.kind} outcome has no survival curve. Ask it of a survival outcome.")
    share = np.zeros(results.n_donors)
    for risks, folds in zip(results.predicted[..., 0], results.fold, strict=True):
        for number in np.unique(folds):
            inside = folds == number
            share[inside] += (rankdata(risks[inside]) - 0.5) / inside.sum() / len(results.predicted)
    group = np.minimum((rankdata(share, method="ordinal") - 1) * n_groups // results.n_donors, n_groups - 1)
    time, event = results.truth[:, 0], results.truth[:, 1] > 0
    names = {1: ("all",), 2: ("low risk", "high risk"), 3: ("low risk", "middle", "high risk")}
    found = names.get(n_groups, tuple(f"risk {g + 1} of {n_groups}" for g in range(n_groups)))
    curves = tuple(kaplan_meier(time[group == g], event[group == g]) for g in range(n_groups))
    return RiskGroups(found, curves, log_rank(time, event, group))


def _band(
    results: OutOfFold,
    generator: np.random.Generator,
    n_draws: int,
    curve: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Band:
    def of(donors: np.ndarray) -> np.ndarray:
        drawn = results.truth[donors]
        return np.asarray(np.mean([curve(drawn, p[donors]) for p in results.predicted], axis=0))

    n = results.n_donors
    draws = np.stack([of(generator.integers(n, size=n)) for _ in range(n_draws)])  # (n_draws, P)
    ends = np.array([percentile_ends(column, BAND_LEVEL) for column in draws.T])
    return Band(GRID, of(np.arange(n)), ends[:, 0], ends[:, 1])
