"""Scores of predictions for 0/1 features, all features at once, over all cells or within groups of cells.

``truth`` and ``score`` are ``(G, N)``: features in rows, so that sorting runs along memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranked:
    """Cells of every feature sorted from the highest score down.

    Parameters
    ----------
    truth
        Of the sorted cells, ``(G, N)``, bool.
    first, last
        First and last place of the cells that tie with each, ``(G, N)``.
    """

    truth: np.ndarray
    first: np.ndarray
    last: np.ndarray


def ranked(truth: np.ndarray, score: np.ndarray) -> Ranked:
    """Sort, and find ties."""
    order = np.argsort(-score, axis=1)  # (G, N)
    descending = np.take_along_axis(score, order, axis=1)  # (G, N)
    n = score.shape[1]
    place = np.broadcast_to(np.arange(n), score.shape)
    new = np.ones(score.shape, dtype=bool)
    new[:, 1:] = descending[:, 1:] != descending[:, :-1]
    first = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    end = np.ones(score.shape, dtype=bool)
    end[:, :-1] = new[:, 1:]
    last = np.minimum.accumulate(np.where(end, place, n - 1)[:, ::-1], axis=1)[:, ::-1]
    return Ranked(np.take_along_axis(truth, order, axis=1), first, last)


@dataclass(frozen=True)
class RankScores:
    """Scores of G features, ``(G,)`` each; NaN where a feature has no two cells to compare.

    Parameters
    ----------
    auroc
        Chance that a cell with the feature is ranked above one without it, ties counting half; within
        groups, only cells of the same group are compared: Σ_t U_t / Σ_t P_t (n_t − P_t).
    auprc
        Average precision, Σ (R_k − R_{k−1}) P_k; within groups, weighted by their positives.
    chance
        What ``auprc`` is for a score that knows nothing: the share of cells with the feature.
    """

    auroc: np.ndarray
    auprc: np.ndarray
    chance: np.ndarray


def rank_scores(truth: np.ndarray, score: np.ndarray, groups: Sequence[np.ndarray]) -> RankScores:
    """AUROC and AUPRC of every feature.

    Parameters
    ----------
    truth
        ``(G, N)``, bool.
    score
        ``(G, N)``.
    groups
        Positions of the cells of each group; one group of all cells for the usual scores.

    Returns
    -------
    RankScores
    """
    n_features = len(truth)
    wins, pairs = np.zeros(n_features), np.zeros(n_features)
    precision, expected, weights = np.zeros(n_features), np.zeros(n_features), np.zeros(n_features)
    for cells in groups:
        part = ranked(truth[:, cells], score[:, cells])
        n = len(cells)
        positive = part.truth.sum(axis=1).astype(np.float64)  # (G,)
        below = n - 1 - 0.5 * (part.first + part.last)  # (G, N): cells ranked lower, ties half
        each = (below * part.truth).sum(axis=1) - positive * (positive - 1) / 2  # (G,)
        wins += each
        pairs += positive * (n - positive)
        hits = np.take_along_axis(part.truth.cumsum(axis=1), part.last, axis=1)  # (G, N)
        weight = np.where(positive < n, positive, 0.0)  # (G,)
        average = (part.truth * hits / (part.last + 1)).sum(axis=1) / np.maximum(positive, 1.0)
        precision += weight * average
        expected += weight * positive / max(n, 1)
        weights += weight
    with np.errstate(invalid="ignore", divide="ignore"):
        return RankScores(wins / pairs, precision / weights, expected / weights)
