"""Imputation without a neural network: ridge, nearest cells, kernel ridge, each tuned on training cells.

All read the same inputs: singular scores of the modality that may be read, beside its log depth (or, where
depth is taken out, without all that goes with it). The
number of dimensions and every penalty, width or number of neighbours are chosen on a tenth of the training
cells, by the very score of the table; the chosen ones are then fitted on all training cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from sklearn.decomposition import TruncatedSVD
from sklearn.kernel_approximation import Nystroem
from sklearn.neighbors import NearestNeighbors

from imputation_tasks import ImputationTask

Floats = NDArray[np.floating]

DIMENSIONS = (30, 50, 100)
RIDGE_PENALTIES = tuple(10.0**power for power in range(0, 7))
NEIGHBOURS = (15, 30, 50, 100, 200)
KERNEL_WIDTHS = (0.3, 1.0, 3.0)  # gamma times the inputs' total variance
KERNEL_PENALTIES = (0.1, 1.0, 10.0, 100.0)
LANDMARKS = 1_000
NARROW = 200


@dataclass(frozen=True)
class Fold:
    """Inputs and targets of the cells fitted on, and inputs of those predicted."""

    x: Floats
    y: Floats
    x_new: Floats


@dataclass(frozen=True)
class Tuned:
    """Imputed values of the held-out cells, and what was chosen."""

    values: Floats
    choice: str


Predictor = Callable[[Fold], Iterator[tuple[str, Floats]]]


def normalised(x: sp.csr_matrix, kind: str) -> sp.csr_matrix:
    """log(1 + counts per 10 000), or log(1 + 10 000 · TF) for peaks (IDF follows from the training cells)."""
    x = (x > 0).astype(np.float32) if kind == "atac" else x.astype(np.float32)
    depth = np.maximum(np.asarray(x.sum(1)).ravel(), 1)
    return (sp.diags(1e4 / depth) @ x).tocsr()


def inputs(task: ImputationTask, dimensions: int, depth_free: bool = False) -> tuple[Floats, Floats]:
    """Inputs of the training cells that have both modalities, and of the held-out cells.

    Log depth stands beside the singular scores; or, depth-free, what goes with it is taken out of them.
    """
    train, test = task.train[task.given], task.test[task.given]
    raw = [sp.csr_matrix(part.X, dtype=np.float32) for part in (train, test)]
    kind = task.given
    if kind == "atac":
        raw = [(x > 0).astype(np.float32).tocsr() for x in raw]
    log_depth = [np.log(np.maximum(np.asarray(x.sum(1)), 1)) for x in raw]
    if raw[0].shape[1] <= NARROW:  # proteins: all of them, centred log ratios beside plain logs
        logs = [np.asarray(x.log1p().todense()) for x in raw]
        blocks = [np.hstack([x, x - x.mean(1, keepdims=True)]) for x in logs]
    else:
        x_train, x_test = (normalised(x, kind) for x in raw)
        if kind == "atac":
            weight = sp.diags(np.log1p(x_train.shape[0] / (1 + np.asarray((x_train > 0).sum(0)).ravel())))
            x_train, x_test = x_train @ weight, x_test @ weight
        fitted = TruncatedSVD(dimensions, random_state=task.seed).fit(x_train.log1p())
        blocks = [fitted.transform(x.log1p()) for x in (x_train, x_test)]
    scale = np.sqrt(blocks[0].var(0).max())
    if depth_free:
        slope, middle = _slope(blocks[0], log_depth[0]), log_depth[0].mean()
        joined = [(b - (d - middle) * slope) / scale for b, d in zip(blocks, log_depth, strict=True)]
    else:
        joined = [np.hstack([b / scale, d]) for b, d in zip(blocks, log_depth, strict=True)]
    joined = [(x - joined[0].mean(0)).astype(np.float32) for x in joined]
    having = train.obs_names.get_indexer(paired_names(task))
    return joined[0][having], joined[1]


def paired_names(task: ImputationTask) -> NDArray[np.str_]:
    """Training cells that have both modalities."""
    given, target = (task.train[name].obs_names for name in (task.given, task.target))
    return np.asarray(given[given.isin(target)])


def _slope(values: Floats, log_depth: Floats) -> Floats:
    """Of every column on log depth ``(n, 1)``: ``(1, F)``."""
    centred = log_depth - log_depth.mean()
    slope: Floats = centred.T @ values / (centred**2).sum()
    return slope


def targets(task: ImputationTask, depth_free: bool = False) -> Floats:
    """What regression fits: 0 and 1 for peaks, log(1 + count) for counts, ``(n, F)``.

    Depth-free, counts are scaled to the median depth, and peaks lose what goes with the log depth.
    """
    x = sp.csr_matrix(task.train[task.target][paired_names(task)].X, dtype=np.float32)
    if task.kind == "binary":
        x = (x > 0).astype(np.float32).tocsr()
    depth = np.maximum(np.asarray(x.sum(1)), 1)
    if task.kind != "binary":
        return (sp.diags(np.median(depth) / depth.ravel()) @ x if depth_free else x).log1p().toarray()
    dense = x.toarray()
    if depth_free:
        log_depth = np.log(depth).astype(np.float32)
        dense -= (log_depth - log_depth.mean()) * _slope(dense, log_depth)
    return dense


def ridge_fits(x: Floats, y: Floats, x_new: Floats, penalties: tuple[float, ...]) -> Iterator[Floats]:
    """Predictions for every penalty; intercept free."""
    middle, mean = x.mean(0), y.mean(0)
    centred = x - middle
    gram, crossed = centred.T @ centred, centred.T @ y
    for penalty in penalties:
        weights = cho_solve(cho_factor(gram + penalty * np.eye(len(gram), dtype=gram.dtype)), crossed)
        yield (x_new - middle) @ weights + mean


def ridge(fold: Fold) -> Iterator[tuple[str, Floats]]:
    """Ridge regression."""
    for penalty, values in zip(
        RIDGE_PENALTIES, ridge_fits(fold.x, fold.y, fold.x_new, RIDGE_PENALTIES), strict=True
    ):
        yield f"penalty {penalty:g}", values


def neighbours(fold: Fold) -> Iterator[tuple[str, Floats]]:
    """Mean of the nearest training cells."""
    search = NearestNeighbors(n_neighbors=max(NEIGHBOURS)).fit(fold.x)
    nearest = search.kneighbors(fold.x_new, return_distance=False)  # (n, 200)
    y = sp.csr_matrix(fold.y)
    for k in NEIGHBOURS:
        columns = nearest[:, :k].ravel()
        starts = np.arange(0, columns.size + 1, k)
        share = np.full(columns.size, 1 / k, dtype=np.float32)
        weights = sp.csr_matrix((share, columns, starts), shape=(len(nearest), len(fold.x)))
        yield f"{k} cells", (weights @ y).toarray()


def kernel_ridge(fold: Fold) -> Iterator[tuple[str, Floats]]:
    """Ridge regression on a Gaussian kernel, on 1 000 landmark cells (Nyström) or all if there are fewer."""
    variance = fold.x.var(0).sum()
    for width in KERNEL_WIDTHS:
        features = Nystroem(
            gamma=width / variance, n_components=min(LANDMARKS, len(fold.x)), random_state=0
        ).fit(fold.x)
        x, x_new = (features.transform(part).astype(np.float32) for part in (fold.x, fold.x_new))
        fits = ridge_fits(x, fold.y, x_new, KERNEL_PENALTIES)
        for penalty, values in zip(KERNEL_PENALTIES, fits, strict=True):
            yield f"width {width:g}, penalty {penalty:g}", values


def tuned(task: ImputationTask, predictor: Predictor, depth_free: bool = False) -> Tuned:
    """Choose on a tenth of the training cells, then fit on all of them."""
    y = targets(task, depth_free)
    order = np.random.default_rng(task.seed).permutation(len(y))
    validation, fit = np.sort(order[: len(order) // 10]), np.sort(order[len(order) // 10 :])
    truth = sp.csr_matrix(task.train[task.target][paired_names(task)].X, dtype=np.float32)[validation]
    best: tuple[float, int, str] | None = None
    narrow = task.train[task.given].n_vars <= NARROW
    y_fit = y[fit]
    for dimensions in DIMENSIONS[:1] if narrow else DIMENSIONS:
        x, _ = inputs(task, dimensions, depth_free)
        for choice, values in predictor(Fold(x[fit], y_fit, x[validation])):
            found = task.score(truth, values).mean
            if best is None or found > best[0]:
                best = (found, dimensions, choice)
    assert best is not None
    del y_fit
    x, x_new = inputs(task, best[1], depth_free)
    fits = predictor(Fold(x, y, x_new))
    values = next(found for choice, found in fits if choice == best[2])
    return Tuned(values, best[2] if narrow else f"{best[1]} dimensions, {best[2]}")
