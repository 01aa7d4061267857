"""What a clinic predicts without any omics: linear models of age, stage and the like.

A model of cells that does not beat this one has learned nothing that a form does not tell. Without any
covariate it is the share of each class, the mean, or the same risk for all.
"""

from __future__ import annotations

import numpy as np

from multiomics_vae.analysis.outcomes.cox import fit_cox
from multiomics_vae.analysis.outcomes.measures import CLASS_KINDS
from multiomics_vae.analysis.outcomes.ordinal_regression import fit_ordinal

RIDGE = 1.0


def linear_predictions(
    kind: str,
    truth: np.ndarray,
    covariates: np.ndarray,
    held_out: np.ndarray,
    n_classes: int,
    *,
    ridge: float = RIDGE,
) -> np.ndarray:
    """Fit on some donors and predict others, as `measures` wants it.

    Logistic regression for classes, proportional odds for ordered ones, ridge regression, Cox; each with
    ridge · |β|² / 2 beside the log likelihood (for the continuous one, of unit noise).

    Parameters
    ----------
    kind, truth
        As in `measures`, of the training donors, ``(D, …)``.
    covariates, held_out
        Of the training donors ``(D, P)`` and of those to predict ``(n, P)``, standardised.
    n_classes
        K; 0 where there are no classes.
    ridge
        Strength of the penalty.
    """
    if kind == "survival":
        fit = fit_cox(truth[:, 0], truth[:, 1] > 0, covariates, ridge=ridge)
        return fit.risk(held_out)[:, None]
    if kind == "continuous":
        return _ridge_regression(truth, covariates, held_out, ridge)
    if kind == "ordinal":
        return fit_ordinal(truth, covariates, n_classes, ridge=ridge).probabilities(held_out)
    assert kind in CLASS_KINDS
    return _logistic(truth.astype(np.int64), covariates, held_out, n_classes, ridge)


def _logistic(
    codes: np.ndarray, covariates: np.ndarray, held_out: np.ndarray, n_classes: int, ridge: float
) -> np.ndarray:
    probabilities = np.zeros((len(held_out), n_classes))
    seen = np.unique(codes)
    if len(seen) == 1 or covariates.shape[1] == 0:
        probabilities[:] = np.bincount(codes, minlength=n_classes) / len(codes)
        return probabilities
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0 / ridge, max_iter=1000).fit(covariates, codes)
    probabilities[:, seen] = model.predict_proba(held_out)
    return probabilities


def _ridge_regression(
    truth: np.ndarray, covariates: np.ndarray, held_out: np.ndarray, ridge: float
) -> np.ndarray:
    """Mean and the residual standard deviation, with as many degrees of freedom as the ridge leaves."""
    from sklearn.linear_model import Ridge

    n, width = covariates.shape
    if width == 0:
        sd = truth.std(ddof=1) if n > 1 else np.nan
        return np.tile([[truth.mean(), sd]], (len(held_out), 1))
    model = Ridge(alpha=ridge).fit(covariates, truth)
    singular = np.linalg.svd(covariates - covariates.mean(0), compute_uv=False) ** 2
    spare = max(1.0, n - 1.0 - float((singular / (singular + ridge)).sum()))
    sd = np.sqrt(((truth - model.predict(covariates)) ** 2).sum() / spare)
    return np.stack([model.predict(held_out), np.full(len(held_out), sd)], axis=1)
