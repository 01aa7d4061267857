"""A point of a learning curve, scored alike for every method."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from records import CurvePoint, Task
from scores import auroc_per_column, embedding_scores


def curve_point(
    task: Task,
    epoch: int,
    wall_seconds: float,
    cpu_seconds: float,
    Z: NDArray[np.floating],
    peaks: NDArray[np.floating],
) -> CurvePoint:
    """Score an embedding of every cell and the peaks of the held-out cells as predicted from their RNA.

    Parameters
    ----------
    task
        Labels, split and the true peaks.
    epoch, wall_seconds, cpu_seconds
        When.
    Z
        Embedding of every cell, ``(N, K)``.
    peaks
        Scores of the peaks of the held-out cells, ``(n, F)``.
    """
    held_out = task.split.test
    truth = sp.csr_matrix(task.mdata["atac"].X)[held_out]  # (n, F)
    return CurvePoint(
        epoch,
        wall_seconds,
        cpu_seconds,
        embedding_scores(Z, task.labels, with_silhouette=False),
        embedding_scores(Z[held_out], task.labels[held_out], with_silhouette=False),
        auroc_per_column(truth, peaks).mean,
    )
