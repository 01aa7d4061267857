"""Reading every value of a matrix once: what kind of numbers it holds, and where the first fault is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from multiomics_vae.data.sources import Matrix

# Values looked at in one go: temporaries stay at a few megabytes, whatever the matrix.
_BLOCK = 1 << 21


@dataclass(frozen=True)
class ValueSummary:
    """What a full scan found among the non-zero values (a missing value counts as one).

    Parameters
    ----------
    n_nonzero
        How many there are.
    n_counts
        How many are whole, finite and positive.
    n_missing, n_infinite
        How many are NaN, and how many are infinite.
    largest
        Largest whole, finite value; 0 if there is none.
    """

    n_nonzero: int
    n_counts: int
    n_missing: int
    n_infinite: int
    largest: float

    @property
    def is_counts(self) -> bool:
        """Every value is a whole number ≥ 0."""
        return self.n_counts == self.n_nonzero

    @property
    def is_binary(self) -> bool:
        return self.is_counts and self.largest <= 1

    @property
    def nearly_counts(self) -> bool:
        """All values but one, or 9 in 10, are counts: the others are faults rather than measurements.

        Infinities are left out: they are overflow, and tell nothing of the kind of data.
        """
        n_others = self.n_nonzero - self.n_counts - self.n_infinite
        return n_others <= max(1.0, 0.1 * (self.n_counts + n_others)) and self.n_counts >= n_others


def not_count(values: np.ndarray) -> np.ndarray:
    """Mark the values that are no finite whole number ≥ 0; NaN is marked too."""
    if values.dtype.kind in "bu":
        return np.zeros(values.shape, dtype=bool)
    if values.dtype.kind == "i":
        return np.asarray(values < 0)
    largest = np.finfo(np.float32).max
    return np.asarray(~((values >= 0) & (np.floor(values) == values) & (values <= largest)))


def summarise(matrix: Matrix) -> ValueSummary:
    """Scan every value.

    Examples
    --------
    >>> summarise(np.array([[0.0, 2.0], [1.0, 0.5]]))
    ValueSummary(n_nonzero=3, n_counts=2, n_missing=0, n_infinite=0, largest=2.0)
    """
    n_nonzero = n_counts = n_missing = n_infinite = 0
    largest = 0.0
    for _, block in _blocks(matrix):
        bad = not_count(block)
        n_nonzero += int(np.count_nonzero(block))
        n_counts += int(np.count_nonzero(block[~bad]) if bad.any() else np.count_nonzero(block))
        if block.dtype.kind == "f":
            n_missing += int(np.isnan(block).sum())
            n_infinite += int(np.isinf(block).sum())
        good = block[~bad] if bad.any() else block
        if good.size:
            largest = max(largest, float(good.max()))
    return ValueSummary(n_nonzero, n_counts, n_missing, n_infinite, largest)


def first_where(matrix: Matrix, fault: Callable[[np.ndarray], np.ndarray]) -> tuple[int, int, float] | None:
    """Row, column and value of the first entry, in reading order, that ``fault`` marks."""
    for start, block in _blocks(matrix):
        marked = fault(block)
        if not marked.any():
            continue
        if isinstance(matrix, np.ndarray):
            row, column = (int(i) for i in np.unravel_index(int(marked.argmax()), block.shape))
            return start + row, column, float(block[row, column])
        position = start + int(marked.argmax())
        row = int(np.searchsorted(matrix.indptr, position, side="right")) - 1
        return row, int(matrix.indices[position]), float(matrix.data[position])
    return None


def _blocks(matrix: Matrix) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of whole rows of a dense matrix, of stored values of a sparse one, with their start."""
    if isinstance(matrix, np.ndarray):
        step = max(1, _BLOCK // max(1, matrix.shape[1]))
        for start in range(0, matrix.shape[0], step):
            yield start, matrix[start : start + step]
    else:
        for start in range(0, matrix.nnz, _BLOCK):
            yield start, matrix.data[start : start + _BLOCK]
