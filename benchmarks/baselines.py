"""Baselines without a neural network: embeddings, and imputation of one modality from the other.

``python benchmarks/baselines.py`` prints the imputation scores as a markdown table.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from records import EmbeddingRun, Stopwatch, Task, read_task
from scores import ColumnScore, auroc_per_column, spearman_per_column

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

DIMENSIONS = 30
NEIGHBOURS = 50
RIDGE_PENALTIES = (1e3, 1e4, 1e5, 1e6, 1e7)


@dataclass(frozen=True)
class Imputation:
    """Scores on held-out cells, each modality imputed from the other."""

    name: str
    peaks_from_rna: ColumnScore  # AUROC
    genes_from_atac: ColumnScore  # Spearman correlation


def log_normalised(task: Task) -> sp.csr_matrix:
    """log(1 + counts per 10 000), ``(N, F)``."""
    counts = sp.csr_matrix(task.mdata["rna"].X, dtype=np.float32)
    library = np.maximum(np.asarray(counts.sum(1)).ravel(), 1)
    return (sp.diags(1e4 / library) @ counts).log1p().tocsr()


def binarised(task: Task) -> sp.csr_matrix:
    """Peaks as 0 and 1, ``(N, F)``."""
    return (sp.csr_matrix(task.mdata["atac"].X) > 0).astype(np.float32).tocsr()


def tf_idf(task: Task) -> sp.csr_matrix:
    """log(1 + 10 000 · share of the cell's peaks · log(1 + n/(1 + cells with the peak))), ``(N, F)``."""
    peaks = binarised(task)
    depth = np.maximum(np.asarray(peaks.sum(1)).ravel(), 1)
    cells = np.asarray(peaks[task.split.train].sum(0)).ravel()
    weight = np.log1p(len(task.split.train) / (1 + cells))
    return (sp.diags(1e4 / depth) @ peaks @ sp.diags(weight)).log1p().tocsr().astype(np.float32)


def singular_scores(x: sp.csr_matrix, task: Task) -> Floats:
    """Scores of all cells on the training cells' singular vectors, not centred, ``(N, 30)``."""
    fitted = TruncatedSVD(DIMENSIONS, random_state=task.seed).fit(x[task.split.train])
    return fitted.transform(x)


def svd(task: Task) -> EmbeddingRun:
    """Singular value decomposition of log-normalised RNA."""
    clock = Stopwatch()
    Z = singular_scores(log_normalised(task), task)
    return EmbeddingRun(Z, clock.wall_seconds, clock.cpu_seconds, embedding_rna=Z)


def svd_lsi(task: Task) -> EmbeddingRun:
    """RNA scores beside scores of TF-IDF peaks, each block scaled to total variance one."""
    clock = Stopwatch()
    blocks = [singular_scores(x, task) for x in (log_normalised(task), tf_idf(task))]
    Z = np.hstack([block / np.sqrt(block[task.split.train].var(0).sum()) for block in blocks])
    return EmbeddingRun(Z, clock.wall_seconds, clock.cpu_seconds)


def ridge_imputation(task: Task) -> Imputation:
    """Ridge regression on singular scores, the penalty chosen on a tenth of the training cells."""
    rna, peaks = log_normalised(task), binarised(task)
    Z_rna, Z_atac = singular_scores(rna, task), singular_scores(tf_idf(task), task)
    genes, counts = rna.toarray(), sp.csr_matrix(task.mdata["rna"].X)
    order = np.random.default_rng(task.seed).permutation(task.split.train)
    fit, validation = order[len(order) // 10 :], order[: len(order) // 10]

    def predict(Z: Floats, y: Floats, rows: Rows, penalty: float, to: Rows) -> Floats:
        return Ridge(alpha=penalty).fit(Z[rows], y).predict(Z[to])

    targets = peaks[fit].toarray()
    peak_penalty = max(
        RIDGE_PENALTIES,
        key=lambda p: auroc_per_column(peaks[validation], predict(Z_rna, targets, fit, p, validation)).mean,
    )
    gene_penalty = max(
        RIDGE_PENALTIES,
        key=lambda p: (
            spearman_per_column(counts[validation], predict(Z_atac, genes[fit], fit, p, validation)).mean
        ),
    )
    train, test = task.split.train, task.split.test
    targets = peaks[train].toarray()
    return Imputation(
        f"ridge on {DIMENSIONS} singular scores (penalties {peak_penalty:g}, {gene_penalty:g})",
        auroc_per_column(peaks[test], predict(Z_rna, targets, train, peak_penalty, test)),
        spearman_per_column(counts[test], predict(Z_atac, genes[train], train, gene_penalty, test)),
    )


def neighbour_imputation(task: Task) -> Imputation:
    """Mean of the nearest training cells in singular scores."""
    rna, peaks = log_normalised(task), binarised(task)
    train, test = task.split.train, task.split.test

    def mean_of_neighbours(Z: Floats, y: sp.csr_matrix) -> Floats:
        search = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(Z[train])
        nearest = search.kneighbors(Z[test], return_distance=False)  # (T, 50)
        share = np.full(nearest.size, 1 / NEIGHBOURS, dtype=np.float32)
        starts = np.arange(0, nearest.size + 1, NEIGHBOURS)
        weights = sp.csr_matrix((share, nearest.ravel(), starts), shape=(len(test), len(train)))
        return (weights @ y[train]).toarray()

    counts = sp.csr_matrix(task.mdata["rna"].X)[test]
    return Imputation(
        f"{NEIGHBOURS} nearest cells in singular scores",
        auroc_per_column(peaks[test], mean_of_neighbours(singular_scores(rna, task), peaks)),
        spearman_per_column(counts, mean_of_neighbours(singular_scores(tf_idf(task), task), rna)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data", help="folder"
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    path = arguments.data / "snareseq_mouse_cortex.h5mu"
    task = read_task(path, seed=0, cap_seconds=float("inf"), threads=arguments.threads)
    print("| imputation | peaks from RNA, AUROC | genes from ATAC, Spearman |\n|---|---|---|")
    with threadpool_limits(limits=arguments.threads):
        for method in (ridge_imputation, neighbour_imputation):
            result = method(task)
            print(f"| {result.name} | {result.peaks_from_rna.mean:.3f} | {result.genes_from_atac.mean:.3f} |")


if __name__ == "__main__":
    main()
