"""How well a score ranks those with an outcome above those without: AUROC, average precision, curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata


def auroc(has: np.ndarray, score: np.ndarray) -> float:
    """Chance that one with the outcome scores above one without it, ties counting half (Mann & Whitney).

    Parameters
    ----------
    has
        Who has the outcome, ``(n,)``, bool or 0/1.
    score
        ``(n,)``, any scale.

    Returns
    -------
    float
        NaN where only one class is there.

    Examples
    --------
    >>> auroc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    positive = np.asarray(has, dtype=bool)
    n_positive = int(positive.sum())
    n_pairs = n_positive * (len(positive) - n_positive)
    if n_pairs == 0:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / n_pairs)


def average_precision(has: np.ndarray, score: np.ndarray) -> float:
    """Area under precision and recall, Σ_k (R_k − R_{k−1}) P_k over distinct scores from the highest down.

    Parameters
    ----------
    has, score
        As in `auroc`.

    Returns
    -------
    float
        NaN where nobody has the outcome.

    Examples
    --------
    >>> round(average_precision(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])), 3)
    0.833
    """
    curve = precision_recall(has, score)
    if not np.isfinite(curve.recall).all():
        return float("nan")
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * curve.precision))


def macro_auroc(codes: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over classes of the AUROC of one against the rest; classes that are absent or alone are left out.

    Parameters
    ----------
    codes
        Class of each, ``(n,)``.
    probabilities
        ``(n, K)``.
    """
    each = np.array([auroc(codes == k, probabilities[:, k]) for k in range(probabilities.shape[1])])
    defined = each[np.isfinite(each)]
    return float(defined.mean()) if len(defined) else float("nan")


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Points of a ROC curve from (0, 0) to (1, 1).

    Parameters
    ----------
    false_positive_rate, true_positive_rate
        Both rising, ``(P,)``.
    """

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray

    def at(self, grid: np.ndarray) -> np.ndarray:
        """True positive rate at false positive rates, ``(G,)``; at a jump the upper end."""
        keep = np.append(np.diff(self.false_positive_rate) > 0, True)
        return np.asarray(np.interp(grid, self.false_positive_rate[keep], self.true_positive_rate[keep]))


@dataclass(frozen=True, eq=False)
class PrecisionRecallCurve:
    """Precision at every distinct score, from the highest down.

    Parameters
    ----------
    recall, precision
        ``(P,)``; recall rises and is NaN where nobody has the outcome.
    """

    recall: np.ndarray
    precision: np.ndarray

    def at(self, grid: np.ndarray) -> np.ndarray:
        """Precision at the smallest recall that is at least ``grid``, ``(G,)``."""
        return self.precision[np.clip(np.searchsorted(self.recall, grid), 0, len(self.recall) - 1)]


def roc_curve(has: np.ndarray, score: np.ndarray) -> RocCurve:
    """Rates at every distinct score; NaN where a class is absent."""
    hits, others = _cumulative(has, score)
    with np.errstate(invalid="ignore"):
        return RocCurve(np.append(0.0, others / others[-1]), np.append(0.0, hits / hits[-1]))


def precision_recall(has: np.ndarray, score: np.ndarray) -> PrecisionRecallCurve:
    """Precision and recall at every distinct score."""
    hits, others = _cumulative(has, score)
    with np.errstate(invalid="ignore"):
        return PrecisionRecallCurve(hits / hits[-1], hits / (hits + others))


def _cumulative(has: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those with and without the outcome at or above each distinct score."""
    order = np.argsort(-np.asarray(score, dtype=np.float64), kind="stable")
    sorted_score = np.asarray(score)[order]
    last = np.append(sorted_score[1:] != sorted_score[:-1], True)
    positive = np.asarray(has, dtype=bool)[order]
    hits = np.cumsum(positive)[last].astype(np.float64)
    others = np.cumsum(~positive)[last].astype(np.float64)
    return hits, others
