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
        Expected ``auprc`` of cells in random order. It is above the share P/n of cells with the feature,
        and well above where these are few: (H_n + (n − H_n)(P − 1)/(n − 1))/n with H_n = Σ_{k≤n} 1/k.
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
        expected += weight * expected_precision(positive, n)
        weights += weight
    with np.errstate(invalid="ignore", divide="ignore"):
        return RankScores(wins / pairs, precision / weights, expected / weights)


def expected_precision(n_positive: np.ndarray, n: int) -> np.ndarray:
    """Expected average precision of n cells in random order, ``(G,)``.

    The cell at place k has the feature with probability P/n, and then 1 + (k − 1)(P − 1)/(n − 1) of the
    first k have it on average.
    """
    if n < 2:
        return n_positive
    harmonic = (1.0 / np.arange(1, n + 1)).sum()
    others = np.maximum(n_positive - 1.0, 0.0) / (n - 1)
    expected: np.ndarray = (harmonic + (n - harmonic) * others) / n
    return expected
