"""Everything that registration must know of a matrix on disk, found in one pass over its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from multiomics_vae.data.matrices import as_float32, dense, row_sums
from multiomics_vae.data.scan import ValueSummary, summarise
from multiomics_vae.data.sources import Matrix


@dataclass(frozen=True)
class StoredScan:
    """What a pass over a matrix found.

    Parameters
    ----------
    summary
        Kinds of the values.
    row_sums, row_filled, row_missing
        Sum, number of entries that are not 0, and number of NaN in every row, ``(N_m,)``.
    column_missing
        NaN in every column, ``(F,)``.
    infinite_in_float32
        True if a value is infinite, or becomes so in float32.
    """

    summary: ValueSummary
    row_sums: np.ndarray
    row_filled: np.ndarray
    row_missing: np.ndarray
    column_missing: np.ndarray
    infinite_in_float32: bool


def scan_chunks(chunks: Iterable[tuple[int, Matrix]], shape: tuple[int, int]) -> StoredScan:
    """Read every chunk of rows once.

    Parameters
    ----------
    chunks
        All rows in order, as `matrices.plain` gives them, each chunk with its first row.
    shape
        ``(N_m, F)``.
    """
    n_nonzero = n_counts = n_missing = n_infinite = 0
    largest, infinite = 0.0, False
    sums, filled = np.zeros(shape[0]), np.zeros(shape[0], dtype=np.int64)
    row_missing = np.zeros(shape[0], dtype=np.int64)
    column_missing = np.zeros(shape[1], dtype=np.int64)
    for start, chunk in chunks:
        found = summarise(chunk)
        n_nonzero, n_counts = n_nonzero + found.n_nonzero, n_counts + found.n_counts
        n_missing, n_infinite = n_missing + found.n_missing, n_infinite + found.n_infinite
        largest = max(largest, found.largest)
        here = slice(start, start + chunk.shape[0])
        sums[here] = row_sums(chunk)
        filled[here] = _row_counts(chunk, lambda values: values != 0)
        if found.n_missing:
            row_missing[here] = _row_counts(chunk, np.isnan)
            column_missing += _column_missing(chunk)
        stored = chunk if isinstance(chunk, np.ndarray) else chunk.data
        if stored.dtype != np.float32 or found.n_infinite:
            infinite = infinite or bool(np.isinf(dense(as_float32(stored.reshape(1, -1)))).any())
    summary = ValueSummary(n_nonzero, n_counts, n_missing, n_infinite, largest)
    return StoredScan(summary, sums, filled, row_missing, column_missing, infinite)


def _row_counts(chunk: Matrix, marks: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    if isinstance(chunk, np.ndarray):
        return np.asarray(marks(chunk).sum(axis=1))
    marked = np.concatenate([[0], np.cumsum(marks(chunk.data))])
    return np.asarray(marked[chunk.indptr[1:]] - marked[chunk.indptr[:-1]])


def _column_missing(chunk: Matrix) -> np.ndarray:
    if isinstance(chunk, np.ndarray):
        return np.asarray(np.isnan(chunk).sum(axis=0))
    return np.bincount(chunk.indices[np.isnan(chunk.data)], minlength=chunk.shape[1])
