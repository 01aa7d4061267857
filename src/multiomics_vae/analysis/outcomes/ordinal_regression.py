"""Proportional odds with a ridge: the linear model of ordered classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

TINY = 1e-12


@dataclass(frozen=True, eq=False)
class OrdinalFit:
    """P(y ≤ k | x) = σ(c_k − βᵀx) (McCullagh 1980).

    Parameters
    ----------
    coefficients
        β, ``(P,)``.
    thresholds
        c, rising, ``(K - 1,)``.
    """

    coefficients: np.ndarray
    thresholds: np.ndarray

    def probabilities(self, covariates: np.ndarray) -> np.ndarray:
        """``(n, P)`` -> ``(n, K)``."""
        return _probabilities(covariates @ self.coefficients, self.thresholds)


def fit_ordinal(
    codes: np.ndarray, covariates: np.ndarray, n_classes: int, *, ridge: float = 1.0
) -> OrdinalFit:
    """Maximise the likelihood minus ridge · |β|² / 2, with a weak prior on thresholds for absent classes.

    Parameters
    ----------
    codes
        Class of each, 0 … K − 1, ``(n,)``.
    covariates
        ``(n, P)``, standardised.
    n_classes
        K.
    ridge
        Precision of the normal prior on β.
    """
    own, n_features = np.asarray(codes, dtype=np.int64), covariates.shape[1]
    share = (np.bincount(own, minlength=n_classes) + 0.5) / (len(own) + 0.5 * n_classes)
    below = np.clip(np.cumsum(share)[:-1], 1e-3, 1 - 1e-3)
    start = np.log(below / (1.0 - below))
    gaps = np.log(np.maximum(np.diff(start), 1e-2))

    def thresholds_of(raw: np.ndarray) -> np.ndarray:
        return np.cumsum(np.append(raw[:1], np.exp(raw[1:])))

    raw_start = np.concatenate([start[:1], gaps])

    def loss(parameters: np.ndarray) -> float:
        beta, raw = parameters[:n_features], parameters[n_features:]
        p = _probabilities(covariates @ beta, thresholds_of(raw))
        prior = 0.5 * ridge * float(beta @ beta) + 0.05 * float(((raw - raw_start) ** 2).sum())
        return float(-np.log(p[np.arange(len(own)), own] + TINY).sum()) + prior

    found = minimize(loss, np.concatenate([np.zeros(n_features), raw_start]), method="L-BFGS-B")
    return OrdinalFit(found.x[:n_features], thresholds_of(found.x[n_features:]))


def _probabilities(score: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    cumulative = expit(thresholds - score[:, None])  # (n, K - 1)
    edges = np.pad(cumulative, ((0, 0), (1, 1)), constant_values=((0, 0), (0.0, 1.0)))
    return np.diff(edges, axis=1)
