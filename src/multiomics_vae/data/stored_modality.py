"""From the chosen values of a modality on disk to its checked rows: what `modality` does in memory."""

from __future__ import annotations

import numpy as np

from multiomics_vae.data import matrices
from multiomics_vae.data.checks import (
    check_counts,
    check_covered,
    check_no_infinity,
    warn_inexact,
)
from multiomics_vae.data.sources import Matrix, Source
from multiomics_vae.data.stored import SCAN_BYTES, StoredMatrix, StoredRows
from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods import LIKELIHOODS


def stored_rows(matrix: StoredMatrix, source: Source, likelihood: str) -> tuple[StoredRows, np.ndarray]:
    """Check values on disk against what a likelihood needs, and say in which form their rows come.

    Returns
    -------
    tuple of StoredRows and ndarray
        The rows that were measured, and which those are, ``(n_rows,)``, bool.

    Raises
    ------
    InputError
        Naming the first value that cannot be, by place, cell and feature.
    """
    support = LIKELIHOODS[likelihood].support
    scan = matrix.scan
    if support in ("real", "codes"):
        return _measured_rows(matrix, source, likelihood, codes=support == "codes")
    if not scan.summary.is_counts:
        check_counts(matrix, source, likelihood)
    n_entries = matrix.shape[0] * matrix.shape[1]
    sparse = scan.summary.n_nonzero <= matrices.DENSE_ABOVE * n_entries or matrix.is_sparse
    everywhere = np.ones(matrix.shape[0], dtype=bool)
    if support == "binary":
        return StoredRows(matrix, sparse, True, False, None, scan.row_filled.astype(np.float64)), everywhere
    warn_inexact(scan.summary.largest, source)
    return StoredRows(matrix, sparse, False, False, None, scan.row_sums), everywhere


def _measured_rows(
    matrix: StoredMatrix, source: Source, likelihood: str, *, codes: bool
) -> tuple[StoredRows, np.ndarray]:
    scan = matrix.scan
    if scan.infinite_in_float32:
        for start, chunk in matrix.chunks():
            check_no_infinity(np.asarray(matrices.dense(matrices.as_float32(chunk))), source, start)
    measured = scan.row_missing < matrix.shape[1]
    if codes and not scan.summary.is_counts:
        _check_codes(matrix, source, likelihood)
    rows = None if measured.all() else np.flatnonzero(measured)
    has_missing = bool(scan.row_missing[measured].any())
    return StoredRows(matrix, False, False, has_missing, rows, np.ones(int(measured.sum()))), measured


def _check_codes(matrix: StoredMatrix, source: Source, likelihood: str) -> None:
    """As `check_counts`, with NaN allowed: it is masked."""
    for start, chunk in matrix.chunks():
        values = np.nan_to_num(matrices.dense(chunk), nan=0.0, posinf=np.inf, neginf=-np.inf)
        check_counts(values, source, likelihood, start)


def check_stored_coverage(
    values: Matrix | StoredMatrix, trials: Matrix | StoredMatrix, source: Source, trials_source: Source
) -> None:
    """Refuse more methylated than covered reads, where one or both matrices are on disk."""
    if values.shape != trials.shape:
        raise InputError(
            f"{source} has shape {values.shape}, but {trials_source} has {trials.shape}. Store one coverage "
            f"for every value: `{trials_source} = coverage[:, :{values.shape[1]}]`."
        )
    step = max(1, SCAN_BYTES // (8 * max(1, values.shape[1])))
    for start in range(0, values.shape[0], step):
        stop = min(start + step, values.shape[0])
        first, second = matrices.same_form(_rows(values, start, stop), _rows(trials, start, stop))
        check_covered(first, second, source, trials_source, start)


def _rows(matrix: Matrix | StoredMatrix, start: int, stop: int) -> Matrix:
    return matrix.chunk(start, stop) if isinstance(matrix, StoredMatrix) else matrix[start:stop]
