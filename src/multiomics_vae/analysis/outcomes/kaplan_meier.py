"""The Kaplan-Meier estimate of survival, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm


@dataclass(frozen=True, eq=False)
class KaplanMeier:
    """S(t) as steps.

    Parameters
    ----------
    time
        Distinct times of deaths and censorings, rising, ``(T,)``.
    survival, low, high
        S just after each time and its pointwise interval, ``(T,)``.
    at_risk
        Patients still followed just before each time, ``(T,)``.
    """

    time: np.ndarray
    survival: np.ndarray
    low: np.ndarray
    high: np.ndarray
    at_risk: np.ndarray

    def at(self, times: np.ndarray, *, before: bool = False) -> np.ndarray:
        """S(t), or with ``before`` S(t−), of any shape; 1 before the first time."""
        place = np.searchsorted(self.time, times, side="left" if before else "right")
        return np.append(1.0, self.survival)[place]


def kaplan_meier(time: np.ndarray, event: np.ndarray, level: float = 0.95) -> KaplanMeier:
    """S(t) = Π_{t_j ≤ t} (1 − d_j / n_j); interval by Greenwood's variance of log(−log S).

    Parameters
    ----------
    time, event
        Time of death or censoring, and which it is, ``(n,)``.
    level
        Nominal coverage of the pointwise interval.

    Examples
    --------
    >>> kaplan_meier(np.array([1.0, 2.0, 3.0]), np.array([1, 0, 1])).survival.round(2).tolist()
    [0.67, 0.67, 0.0]
    """
    distinct, place = np.unique(np.asarray(time, dtype=np.float64), return_inverse=True)
    deaths = np.bincount(place, weights=np.asarray(event, dtype=np.float64), minlength=len(distinct))
    leaving = np.bincount(place, minlength=len(distinct))
    at_risk = leaving[::-1].cumsum()[::-1].astype(np.float64)
    survival = np.cumprod(1.0 - deaths / at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.cumsum(deaths / (at_risk * (at_risk - deaths)))
        log_survival = np.log(survival)
        width = norm.ppf((1.0 + level) / 2.0) * np.sqrt(variance) / np.abs(log_survival)
        low, high = survival ** np.exp(width), survival ** np.exp(-width)
    # S = 1 has no spread yet, and S = 0 none left.
    settled = (survival == 1.0) | (survival == 0.0)
    low, high = np.where(settled, survival, low), np.where(settled, survival, high)
    return KaplanMeier(distinct, survival, low, high, at_risk)


def log_rank(time: np.ndarray, event: np.ndarray, group: np.ndarray) -> float:
    """P-value of equal survival in all groups (Mantel's log-rank test); NaN for fewer than two groups.

    Parameters
    ----------
    time, event
        As in `kaplan_meier`.
    group
        Group of each patient, ``(n,)``.
    """
    from scipy.stats import chi2

    names, member = np.unique(group, return_inverse=True)
    if len(names) < 2:
        return float("nan")
    died = np.asarray(event, dtype=bool)
    excess = np.zeros(len(names))
    covariance = np.zeros((len(names), len(names)))
    for at in np.unique(time[died]):
        counts = np.bincount(member[time >= at], minlength=len(names)).astype(np.float64)
        n, d = counts.sum(), float((died & (time == at)).sum())
        share = counts / n
        excess += np.bincount(member[died & (time == at)], minlength=len(names)) - d * share
        if n > 1:
            covariance += d * (n - d) / (n - 1) * (np.diag(share) - np.outer(share, share))
    statistic = excess[1:] @ np.linalg.pinv(covariance[1:, 1:]) @ excess[1:]
    return float(chi2.sf(statistic, len(names) - 1))
