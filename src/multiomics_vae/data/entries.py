"""Arithmetic on the entries of a matrix, whichever of its two forms it has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from multiomics_vae.data.sources import Matrix


def sum_over_rows(values: Matrix) -> np.ndarray:
    """Sum of every column, accumulated in float64."""
    return np.asarray(values.sum(axis=0, dtype=np.float64)).ravel()  # (F,)


def minimum(values: Matrix) -> float:
    """Smallest stored entry, 0 if there is none."""
    stored = values.data if sp.issparse(values) else values
    return float(stored.min()) if stored.size else 0.0


def maximum(values: Matrix) -> np.ndarray:
    """Largest entry of every column, ``(F,)``, float64; 0 without rows."""
    if values.shape[0] == 0:
        return np.zeros(values.shape[1])
    largest = values.max(axis=0)
    dense = largest if isinstance(largest, np.ndarray) else largest.toarray()
    return np.asarray(dense, dtype=np.float64).ravel()


def over_entries(values: Matrix, function: Callable[[np.ndarray], np.ndarray]) -> Matrix:
    """Apply a function that keeps 0 at 0 to every entry."""
    if isinstance(values, np.ndarray):
        return function(values)
    return sp.csr_matrix((function(values.data), values.indices, values.indptr), shape=values.shape)


def overdispersion(
    squares: np.ndarray, crossed: np.ndarray, total: np.ndarray, frequency: np.ndarray, depth_squares: float
) -> np.ndarray:
    """Σ [(x − l f)² − x] / Σ (l f)² with the square written out, so that sparse values stay sparse.

    Parameters
    ----------
    squares, crossed, total
        Σ x², Σ l x and Σ x of every feature, ``(F,)``.
    frequency
        f, the feature's share of a library, ``(F,)``.
    depth_squares
        Σ l².
    """
    expected: np.ndarray = frequency**2 * depth_squares
    excess = squares - 2.0 * frequency * crossed + expected - total
    ratio = np.zeros_like(expected)
    np.divide(np.maximum(excess, 0.0), expected, out=ratio, where=expected > 0)
    return ratio
