"""Scores of predicted probabilities of classes."""

from __future__ import annotations

import numpy as np


def brier(codes: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean squared error (Brier 1950): of two classes (p − y)², of more Σ_k (p_k − y_k)².

    Parameters
    ----------
    codes
        Class of each, ``(n,)``.
    probabilities
        ``(n, K)``.

    Examples
    --------
    >>> brier(np.array([1, 0]), np.array([[0.5, 0.5], [1.0, 0.0]]))
    0.125
    """
    squares = (probabilities - one_hot(codes, probabilities.shape[1])) ** 2  # (n, K)
    return float(squares[:, 1].mean() if probabilities.shape[1] == 2 else squares.sum(1).mean())


def log_loss(codes: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean −log p of the true class, nats; p is held above 1e-15."""
    own = np.take_along_axis(probabilities, codes.astype(np.int64)[:, None], 1)[:, 0]
    return float(-np.log(np.maximum(own, 1e-15)).mean())


def ranked_probability_score(codes: np.ndarray, probabilities: np.ndarray) -> float:
    """Σ_k (P(y ≤ k) − 1[y ≤ k])², the Brier score of ordered classes (Epstein 1969), mean over rows."""
    truth = np.cumsum(one_hot(codes, probabilities.shape[1]), axis=1)
    return float(((np.cumsum(probabilities, axis=1) - truth) ** 2).sum(1).mean())


def mean_absolute_rank_error(codes: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean |median class − true class| of ordered classes; the median is the best guess under this loss.

    Examples
    --------
    >>> mean_absolute_rank_error(np.array([2]), np.array([[0.6, 0.3, 0.1]]))
    2.0
    """
    return float(np.abs(median_class(probabilities) - codes).mean())


def median_class(probabilities: np.ndarray) -> np.ndarray:
    """The first class at which the cumulative probability reaches one half, ``(n,)``."""
    return np.asarray((np.cumsum(probabilities, axis=1) >= 0.5 - 1e-9).argmax(1))


def balanced_accuracy(codes: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over the classes that occur of the share of them that is found."""
    right = probabilities.argmax(1) == codes
    found = [right[codes == k].mean() for k in np.unique(codes)]
    return float(np.mean(found)) if found else float("nan")


def one_hot(codes: np.ndarray, n_classes: int) -> np.ndarray:
    """1 at the class, ``(n, K)``."""
    return np.asarray(codes.astype(np.int64)[:, None] == np.arange(n_classes), dtype=np.float64)
