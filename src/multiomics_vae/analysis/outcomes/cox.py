"""Cox regression by Newton's method, with ties and a ridge: the baseline of survival, and a head's equal.

Written here, because statsmodels' has no ridge in its Newton steps and diverges where a covariate separates
the deaths of a small fold, and lifelines and scikit-survival bring solvers that nothing else needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multiomics_vae.errors import InputError

MOST_STEPS = 50
TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class CoxFit:
    """Hazard h(t | x) = h_0(t) exp(βᵀ(x − x̄)).

    Parameters
    ----------
    coefficients
        β, ``(P,)``.
    centre
        x̄ of the patients that were fitted, ``(P,)``.
    time, cumulative_hazard
        Breslow's H_0 at the times of deaths, ``(T,)`` each, both rising.
    log_likelihood
        Efron's partial log likelihood at β, without the ridge.
    """

    coefficients: np.ndarray
    centre: np.ndarray
    time: np.ndarray
    cumulative_hazard: np.ndarray
    log_likelihood: float

    def risk(self, covariates: np.ndarray) -> np.ndarray:
        """Log hazard ratio against the average patient, ``(n, P)`` -> ``(n,)``."""
        return np.asarray((covariates - self.centre) @ self.coefficients)

    def survival(self, covariates: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """S(t | x) = exp(−H_0(t) exp(risk)), ``(n, G)``."""
        place = np.searchsorted(self.time, grid, side="right")
        hazard = np.append(0.0, self.cumulative_hazard)[place]  # (G,)
        return np.asarray(np.exp(-np.exp(self.risk(covariates))[:, None] * hazard))


def fit_cox(time: np.ndarray, event: np.ndarray, covariates: np.ndarray, *, ridge: float = 0.0) -> CoxFit:
    """Maximise Efron's partial likelihood minus ridge · |β|² / 2.

    Parameters
    ----------
    time, event
        Time of death or censoring, and which it is, ``(n,)``.
    covariates
        ``(n, P)``; standardise them where there is a ridge.
    ridge
        Precision of a normal prior on every coefficient.

    Raises
    ------
    InputError
        If nobody died.

    Examples
    --------
    >>> x = np.array([[2.0], [1.0], [1.5], [0.0]])
    >>> bool(fit_cox(np.array([1.0, 2, 3, 4]), np.ones(4), x, ridge=1.0).coefficients[0] > 0)
    True
    """
    died = np.asarray(event, dtype=bool)
    if not died.any():
        raise InputError(
            f"None of the {len(died)} patients of this fit has an event, so no hazard can be learned. Take "
            "fewer folds: cross_validate(..., n_folds=3)"
        )
    time, x = np.asarray(time, dtype=np.float64), np.asarray(covariates, dtype=np.float64)
    centre = x.mean(0)
    x = x - centre
    beta = np.zeros(x.shape[1])
    value, gradient, information = partial_likelihood(time, died, x, beta)
    for _ in range(MOST_STEPS if x.shape[1] else 0):
        penalised = value - 0.5 * ridge * beta @ beta
        step = np.linalg.lstsq(information + ridge * np.eye(len(beta)), gradient - ridge * beta, rcond=None)[
            0
        ]
        scale = 1.0
        while True:  # halve until the likelihood rises: a full step can overshoot where a fold is small
            tried = beta + scale * step
            found = partial_likelihood(time, died, x, tried)
            gain = found[0] - 0.5 * ridge * tried @ tried - penalised
            if gain >= 0 or scale < 1e-6:
                break
            scale /= 2.0
        beta, (value, gradient, information) = tried, found
        if gain < TOLERANCE:
            break
    times = np.unique(time[died])
    weight = np.exp(x @ beta)
    at_risk = np.array([weight[time >= at].sum() for at in times])
    deaths = np.array([(died & (time == at)).sum() for at in times])
    return CoxFit(beta, centre, times, np.cumsum(deaths / at_risk), value)


def partial_likelihood(
    time: np.ndarray, event: np.ndarray, x: np.ndarray, beta: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Efron's (1977) partial log likelihood, its gradient ``(P,)`` and its negative Hessian ``(P, P)``.

    Parameters
    ----------
    time, event
        ``(n,)``; event is bool.
    x
        Covariates, ``(n, P)``.
    beta
        ``(P,)``.
    """
    eta = x @ beta
    weight = np.exp(eta - eta.max(initial=0.0))
    shift = eta.max(initial=0.0)
    value, gradient = 0.0, np.zeros(len(beta))
    information = np.zeros((len(beta), len(beta)))
    for at in np.unique(time[event]):
        still, tied = time >= at, event & (time == at)
        d = int(tied.sum())
        sums = [_moments(weight[rows], x[rows]) for rows in (still, tied)]
        value += float(eta[tied].sum())
        gradient += x[tied].sum(0)
        for share in np.arange(d) / d:
            s0, s1, s2 = (a - share * b for a, b in zip(*sums, strict=True))
            value -= float(np.log(s0) + shift)
            mean = s1 / s0
            gradient -= mean
            information += s2 / s0 - np.outer(mean, mean)
    return value, gradient, information


def _moments(weight: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Σ w, Σ w x and Σ w x xᵀ."""
    return weight.sum(), weight @ x, (x * weight[:, None]).T @ x
