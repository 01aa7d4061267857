"""Correlations of predictions and values, all features at once, over all cells or within groups of cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata


def pearson(truth: np.ndarray, score: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """Pearson correlation of every feature; within groups, of what is left when group means are taken out.

    Parameters
    ----------
    truth, score
        ``(G, N)``.
    groups
        Positions of the cells of each group; one group of all cells for the usual correlation.

    Returns
    -------
    ndarray
        ``(G,)``. A prediction that does not vary scores 0, since it says nothing; NaN where the values do
        not vary.
    """
    cross, of_truth, of_score = (np.zeros(len(truth)) for _ in range(3))
    for cells in groups:
        if not len(cells):
            continue
        a, b = _centred(truth[:, cells]), _centred(score[:, cells])  # (G, n)
        cross += (a * b).sum(axis=1)
        of_truth += (a * a).sum(axis=1)
        of_score += (b * b).sum(axis=1)
    size = np.sqrt(of_truth * of_score)
    found = np.divide(cross, size, out=np.zeros_like(cross), where=size > 0)
    found[of_truth <= 0] = np.nan
    return found


def spearman(truth: np.ndarray, score: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """Pearson correlation of the ranks, taken in every group and divided by its size: ``(G,)``."""
    ranks = [np.zeros(truth.shape), np.zeros(truth.shape)]
    for cells in groups:
        for out, values in zip(ranks, (truth, score), strict=True):
            if len(cells):
                out[:, cells] = rankdata(values[:, cells], axis=1) / len(cells)
    return pearson(ranks[0], ranks[1], groups)


def _centred(values: np.ndarray) -> np.ndarray:
    """Values minus their mean; exactly 0 where all are the same, which rounding would spoil."""
    exact = values.astype(np.float64)
    centred: np.ndarray = exact - exact.mean(axis=1, keepdims=True)
    centred[(values == values[:, :1]).all(axis=1)] = 0.0
    return centred
