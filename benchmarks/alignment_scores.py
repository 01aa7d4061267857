"""Scores of the alignment benchmark."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import KNeighborsClassifier

from scores import UNLABELLED


def foscttm(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Fraction of samples closer than the true match, both ways (Liu et al. 2019): 0 is perfect, .5 chance.

    Parameters
    ----------
    first, second
        The same cells, in the same order, seen in two modalities, ``(N, K)`` each.
    """
    distances = euclidean_distances(first, second)  # (N, N)
    own = np.diag(distances)
    n = len(own) - 1
    forth = (distances < own[:, None]).sum(1) / n
    back = (distances < own[None, :]).sum(0) / n
    return float((forth.mean() + back.mean()) / 2)


def pearson_per_column(truth: sp.spmatrix | NDArray, predicted: NDArray[np.floating]) -> float:
    """Mean Pearson correlation over features, both sides as log(1 + x)."""
    dense = truth.toarray() if sp.issparse(truth) else np.asarray(truth)
    a, b = np.log1p(dense), np.log1p(predicted)
    a, b = a - a.mean(0), b - b.mean(0)
    with np.errstate(invalid="ignore"):
        r = (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return float(np.nanmean(r))


def transferred_accuracy(
    Z: NDArray[np.floating],
    labels: NDArray[np.str_],
    teachers: NDArray[np.bool_],
    asked: NDArray[np.bool_],
) -> float:
    """Accuracy of the types of some cells, by their 15 nearest neighbours among others; NaN without any.

    Parameters
    ----------
    Z, labels
        Embedding ``(N, K)`` and type of each cell.
    teachers, asked
        Cells whose types are known to the classifier, and those it is asked about, ``(N,)``, disjoint.
    """
    known = ~np.isin(labels, UNLABELLED)
    if not (asked & known).any():
        return float("nan")
    classifier = KNeighborsClassifier(15).fit(Z[teachers & known], labels[teachers & known])
    return float((classifier.predict(Z[asked & known]) == labels[asked & known]).mean())


def detection(score: NDArray[np.floating], is_swapped: NDArray[np.bool_]) -> float:
    """AUROC of finding swapped cells by a score."""
    return float(roc_auc_score(is_swapped, score))
