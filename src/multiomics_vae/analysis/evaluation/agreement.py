"""How well the embeddings of two modalities agree on the cells that have both."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from multiomics_vae.analysis.evaluation.question import Question
from multiomics_vae.analysis.latent import latent_table

ROWS_AT_ONCE = 512
MOST_CELLS = 5_000


def foscttm(x: np.ndarray, y: np.ndarray) -> float:
    """Fraction of samples closer than the true match (Liu et al. 2019), both ways.

    For every cell the share of the other cells whose y lies nearer to its x than its own y does, and the
    same with x and y exchanged. 0 is perfect, .5 is chance; a tie counts half, so that embeddings in which
    all cells lie on one point are at chance.

    Parameters
    ----------
    x, y
        ``(N, K)``, the same cells in the same order.

    Returns
    -------
    float
        NaN for fewer than two cells.

    Examples
    --------
    >>> foscttm(np.array([[0.0], [1.0]]), np.array([[0.1], [0.9]]))
    0.0
    """
    n = len(x)
    if n < 2:
        return float("nan")
    total = 0.0
    for first, second in ((x, y), (y, x)):
        for low in range(0, n, ROWS_AT_ONCE):
            rows = np.arange(low, min(low + ROWS_AT_ONCE, n))
            distance = cdist(first[rows], second)  # (b, N)
            own = distance[np.arange(len(rows)), rows][:, None]  # (b, 1)
            ties = (distance == own).sum() - len(rows)
            total += (distance < own).sum() + 0.5 * ties
    return float(total / (2 * n * (n - 1)))


def procrustes_disparity(x: np.ndarray, y: np.ndarray) -> float:
    """What of y is left unexplained by x, moved, turned and scaled: 1 − (Σ s)² (Gower 1975).

    s are the singular values of XᵀY, both centred and of Frobenius norm 1. 0: the same shape; 1: nothing
    in common.

    Parameters
    ----------
    x, y
        ``(N, K)``, the same cells in the same order.

    Returns
    -------
    float
        1 if all cells of one embedding lie on one point; NaN for fewer than two cells.

    Examples
    --------
    >>> x = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> procrustes_disparity(x, 3.0 * x @ np.array([[0.0, 1.0], [-1.0, 0.0]]) + 5.0) < 1e-12
    True
    """
    if len(x) < 2:
        return float("nan")
    centred = [np.asarray(each, dtype=np.float64) - np.mean(each, axis=0) for each in (x, y)]
    norms = [np.linalg.norm(each) for each in centred]
    if min(norms) <= 1e-12 * (1.0 + max(np.abs(x).max(), np.abs(y).max())):
        return 1.0
    singular = np.linalg.svd((centred[0] / norms[0]).T @ (centred[1] / norms[1]), compute_uv=False)
    return float(1.0 - singular.sum() ** 2)


def agreement_table(question: Question) -> pd.DataFrame:
    """Both measures for every two modalities, between the means of q(z | x_a) and q(z | x_b).

    Returns
    -------
    DataFrame
        ``first``, ``second``, ``foscttm``, ``procrustes``, ``n_cells`` (at most 5 000, drawn).
    """
    rows = []
    for a, b in question.pairs():
        both = question.having(a, b).drawn(MOST_CELLS)
        means = [latent_table(both.module, both.data, both.cells, both.batch_size, (m,)).mean for m in (a, b)]
        found = foscttm(*means), procrustes_disparity(*means)
        rows.append((question.names[a], question.names[b], *found, len(both.cells)))
    return pd.DataFrame(rows, columns=["first", "second", "foscttm", "procrustes", "n_cells"])
