"""Scores of embeddings and of imputed values, the same for every method.

Labels may hold cells without a type (``UNLABELLED``); these, and types of fewer than ten cells, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.cluster import KMeans
from sklearn.metrics import (
    adjusted_rand_score,
    average_precision_score,
    balanced_accuracy_score,
    normalized_mutual_info_score,
    roc_auc_score,
    silhouette_score,
)
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

UNLABELLED = ("Misc/unknown", "unlabelled", "Mis")
MIN_CELLS_OF_A_TYPE = 10
MIN_CELLS_FOR_MIXING = 40


@dataclass(frozen=True)
class EmbeddingScores:
    """How well an embedding keeps cell types apart (higher is better, all in [0, 1]).

    Parameters
    ----------
    knn_accuracy
        Accuracy of a 15-nearest-neighbour classifier, five-fold cross-validated.
    knn_balanced
        The same, averaged over types with equal weight.
    nmi, ari
        Normalised mutual information and adjusted Rand index of k-means clusters, k the number of types.
    asw
        Silhouette width of the types, (s + 1)/2; None where it was left out.
    batch_mixing
        Share of neighbours from other batches within a type over its expectation; None without batches.
    """

    knn_accuracy: float
    knn_balanced: float
    nmi: float
    ari: float
    asw: float | None
    batch_mixing: float | None


@dataclass(frozen=True)
class ColumnScore:
    """A score averaged over the features that had enough cells to be scored."""

    mean: float
    n_features: int


@dataclass(frozen=True)
class FlatScore:
    """AUROC and average precision over a random sample of matrix entries."""

    auroc: float
    average_precision: float


@dataclass(frozen=True)
class Split:
    """Row numbers of the cells to fit on and of the cells held out, both sorted."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def held_out_split(n_obs: int, seed: int = 0) -> Split:
    """Four fifths of the cells to fit on, one fifth held out."""
    rng = np.random.default_rng(seed)
    test = np.sort(rng.choice(n_obs, n_obs // 5, replace=False))
    return Split(train=np.setdiff1d(np.arange(n_obs), test), test=test)


def embedding_scores(
    Z: ArrayLike,
    labels: ArrayLike,
    batch: ArrayLike | None = None,
    *,
    seed: int = 0,
    unlabelled: tuple[str, ...] = UNLABELLED,
    with_silhouette: bool = True,
) -> EmbeddingScores:
    """Score an embedding against cell types.

    Parameters
    ----------
    Z
        Embedding, ``(N, K)``.
    labels
        Type of each cell, ``(N,)``.
    batch
        Batch of each cell, ``(N,)``; None leaves batch mixing out.
    seed
        Seed of the folds, of k-means and of the silhouette's sample.
    unlabelled
        Labels that mean "not known"; their cells are left out.
    with_silhouette
        False leaves the silhouette out, the slowest of the scores.
    """
    Z, labels = np.asarray(Z), np.asarray(labels).astype(str)
    _, type_of_cell, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    keep = ~np.isin(labels, unlabelled) & (sizes[type_of_cell] >= MIN_CELLS_OF_A_TYPE)
    Z, y = Z[keep], labels[keep]
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    predicted = cross_val_predict(KNeighborsClassifier(15), Z, y, cv=folds)
    clusters = KMeans(len(np.unique(y)), n_init=4, random_state=seed).fit_predict(Z)
    asw = None
    if with_silhouette:
        asw = float((silhouette_score(Z, y, sample_size=4000, random_state=seed) + 1) / 2)
    return EmbeddingScores(
        knn_accuracy=float((predicted == y).mean()),
        knn_balanced=float(balanced_accuracy_score(y, predicted)),
        nmi=float(normalized_mutual_info_score(y, clusters)),
        ari=float(adjusted_rand_score(y, clusters)),
        asw=asw,
        batch_mixing=None if batch is None else batch_mixing(Z, y, np.asarray(batch).astype(str)[keep]),
    )


def batch_mixing(Z: NDArray[np.floating], y: NDArray[np.str_], batch: NDArray[np.str_]) -> float | None:
    """Mean over types of (1 - share of same-batch neighbours)/(1 - expected share); 1 is perfectly mixed.

    None with a single batch; NaN where no type has cells enough from two batches.
    """
    if len(np.unique(batch)) < 2:
        return None
    ratios = []
    for name in np.unique(y):
        members = y == name
        if members.sum() < MIN_CELLS_FOR_MIXING:
            continue
        own = batch[members]
        shares = np.array([(own == value).mean() for value in np.unique(own)])
        expected = (shares**2).sum()
        if expected > 0.98:
            continue
        search = NearestNeighbors(n_neighbors=16).fit(Z[members])
        neighbours = search.kneighbors(Z[members], return_distance=False)[:, 1:]
        same = (own[neighbours] == own[:, None]).mean()
        ratios.append((1 - same) / (1 - expected))
    return float(np.mean(ratios)) if ratios else float("nan")


def auroc_per_column(truth: ArrayLike | sp.spmatrix, score: ArrayLike, min_cells: int = 10) -> ColumnScore:
    """Mean AUROC over features with at least ``min_cells`` positive and as many negative cells."""
    positive = sp.csc_matrix(truth) > 0 if sp.issparse(truth) else sp.csc_matrix(np.asarray(truth) > 0)
    score = np.asarray(score)
    n_positive = np.asarray(positive.sum(0)).ravel().astype(float)
    n_negative = positive.shape[0] - n_positive
    columns = np.where((n_positive >= min_cells) & (n_negative >= min_cells))[0]
    values = []
    for block in np.array_split(columns, max(1, len(columns) // 1000)):
        ranks = rankdata(score[:, block], axis=0)
        rank_sum = np.asarray(positive[:, block].multiply(ranks).sum(0)).ravel()
        smallest = n_positive[block] * (n_positive[block] + 1) / 2
        values.append((rank_sum - smallest) / (n_positive[block] * n_negative[block]))
    return ColumnScore(float(np.mean(np.concatenate(values))), len(columns))


def auroc_flat(
    truth: ArrayLike | sp.spmatrix, score: ArrayLike, seed: int = 0, n: int = 2_000_000
) -> FlatScore:
    """AUROC and average precision over ``n`` entries drawn at random from the whole matrix."""
    truth = truth.toarray() if sp.issparse(truth) else np.asarray(truth)
    drawn = np.random.default_rng(seed).integers(0, truth.size, min(n, truth.size))
    t, s = truth.ravel()[drawn] > 0, np.asarray(score).ravel()[drawn]
    return FlatScore(float(roc_auc_score(t, s)), float(average_precision_score(t, s)))


def spearman_per_column(truth: ArrayLike | sp.spmatrix, score: ArrayLike, min_cells: int = 20) -> ColumnScore:
    """Mean Spearman correlation over features that are non-zero in at least ``min_cells`` cells."""
    truth = truth.toarray() if sp.issparse(truth) else np.asarray(truth)
    columns = np.where((truth > 0).sum(0) >= min_cells)[0]
    a = rankdata(truth[:, columns], axis=0)
    b = rankdata(np.asarray(score)[:, columns], axis=0)
    a -= a.mean(0)
    b -= b.mean(0)
    r = (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0) + 1e-12)
    return ColumnScore(float(np.nanmean(r)), len(columns))


def pearson_per_column(truth: ArrayLike | sp.spmatrix, score: ArrayLike) -> ColumnScore:
    """Mean Pearson correlation over features that differ between cells; constant scores count as 0."""
    truth = truth.toarray() if sp.issparse(truth) else np.asarray(truth)
    columns = np.where(truth.std(0) > 0)[0]
    a = truth[:, columns].astype(np.float64)
    b = np.asarray(score)[:, columns].astype(np.float64)
    a -= a.mean(0)
    b -= b.mean(0)
    r = (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0) + 1e-12)
    return ColumnScore(float(np.mean(r)), len(columns))
