"""Marginal models: every feature on its own, nothing shared between cells but library size or depth.

The log likelihood of a held-out cell under these says what a model with a latent variable must beat.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import digamma, expit, gammaln

PSEUDOCOUNT = 0.5


def negative_binomial(train: sp.csr_matrix, test: sp.csr_matrix) -> float:
    """Mean log likelihood of a test cell: mean = library · share of the gene, dispersion fitted per gene.

    Parameters
    ----------
    train, test
        Counts, ``(N, F)`` and ``(T, F)``. A cell's own library size is given to the model.
    """
    total = np.asarray(train.sum(0), dtype=np.float64).ravel() + PSEUDOCOUNT
    share = total / total.sum()  # (F,)
    theta = _inverse_dispersion(train, share)  # (F,)
    mean = _library(test)[:, None] * share  # (T, F)
    # At a count of zero the gamma functions cancel: they are needed at non-zero counts only.
    dense = theta * np.log(theta / (theta + mean))  # (T, F)
    x = test.tocoo()
    t, m, k = theta[x.col], mean[x.row, x.col], x.data.astype(np.float64)
    counted = k * np.log(m / (t + m)) + gammaln(k + t) - gammaln(t) - gammaln(k + 1)
    return float((dense.sum() + counted.sum()) / test.shape[0])


def bernoulli(train: sp.csr_matrix, test: sp.csr_matrix) -> float:
    """Mean log likelihood of a test cell: logit of a peak = its bias + log depth of the cell.

    Parameters
    ----------
    train, test
        Peaks, 0 or 1, ``(N, F)`` and ``(T, F)``. A cell's own depth is given to the model.
    """
    offset, cells = np.unique(np.log(_library(train)), return_counts=True)  # (D,) distinct depths
    open_cells = np.asarray(train.sum(0), dtype=np.float64).ravel() + PSEUDOCOUNT  # (F,)
    bias = np.log(open_cells / (cells @ np.exp(offset)))  # (F,)
    for _ in range(8):  # Newton's method; concave, and started at its limit for rare peaks
        p = expit(offset[:, None] + bias)  # (D, F)
        bias += (open_cells - cells @ p) / (cells @ (p * (1 - p)))
    log_depth, row = np.unique(np.log(_library(test)), return_inverse=True)
    closed = -np.logaddexp(0, log_depth[:, None] + bias).sum(1)[row]  # (T,)
    x = test.tocoo()
    return float((closed.sum() + (log_depth[row][x.row] + bias[x.col]).sum()) / test.shape[0])


def _library(x: sp.csr_matrix) -> NDArray[np.float64]:
    return np.maximum(np.asarray(x.sum(1), dtype=np.float64).ravel(), 1)


def _inverse_dispersion(x: sp.csr_matrix, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maximum likelihood per gene by bisection on log theta."""
    library, row, cells = np.unique(_library(x), return_inverse=True, return_counts=True)  # (L,), (N,), (L,)
    coo = x.tocoo()
    k, library_of_count = coo.data.astype(np.float64), row[coo.row]
    mean = library[:, None] * share  # (L, F)
    total = np.asarray(x.sum(0), dtype=np.float64).ravel()
    low, high = np.full(len(share), -6.0), np.full(len(share), 8.0)
    for _ in range(20):
        middle = (low + high) / 2
        theta = np.exp(middle)
        excess = mean + theta  # (L, F)
        slope = x.shape[0] * (middle + 1) - cells @ np.log(excess)  # (F,)
        inverse = np.reciprocal(excess, out=excess)
        slope -= theta * (cells @ inverse)
        at_counts = (
            digamma(k + theta[coo.col]) - digamma(theta[coo.col]) - k * inverse[library_of_count, coo.col]
        )
        slope += np.bincount(coo.col, at_counts, minlength=len(share))
        rising = slope > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    return np.where(total > 0, np.exp((low + high) / 2), 1.0)
