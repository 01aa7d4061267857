"""Values on disk in the place of values in memory: checked in one pass, read a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from multiomics_vae.data import matrices
from multiomics_vae.data import scan as memory_scan
from multiomics_vae.data.disk import BYTES_A_NONZERO, DiskCsr, DiskTable, is_on_disk, open_table
from multiomics_vae.data.sources import Matrix, Source
from multiomics_vae.data.stored_scan import StoredScan, scan_chunks

# Read in one go in a pass over everything; a few times as much is held while it is worked on.
SCAN_BYTES = 1 << 23
# Read in one go when rows are gathered, and the widest hole between wanted rows that is read through.
RUN_BYTES = 1 << 22
HOLE_BYTES = 1 << 18


@dataclass(frozen=True)
class StoredMatrix:
    """A matrix on disk as the user stored it, numbers of any kind.

    Parameters
    ----------
    table
        Where it is.
    source
        Its address, for errors.
    columns
        Which columns, in which order, ``(F,)``; None means all.
    """

    table: DiskTable
    source: Source
    columns: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.table.shape[0], self.table.shape[1] if self.columns is None else len(self.columns)

    def chunk(self, start: int, stop: int) -> Matrix:
        """Contiguous rows in canonical form, dtype unchanged."""
        chunk = matrices.plain(self.table.read(start, stop), self.source)
        return chunk if self.columns is None else matrices.take_columns(chunk, self.columns)

    def chunks(self) -> Iterator[tuple[int, Matrix]]:
        """All rows in order, a bounded number at a time, each chunk with its first row."""
        for start, stop in self._spans(SCAN_BYTES):
            yield start, self.chunk(start, stop)

    def runs(self, rows: np.ndarray) -> list[np.ndarray]:
        """Split rising rows into runs that are cheap to read in one go: ``[(n_1,), (n_2,), …]``."""
        if len(rows) == 0:
            return []
        begins, ends = self._offsets[rows], self._offsets[rows + 1]
        grid = begins // self._grid(RUN_BYTES)
        cut = (begins[1:] - ends[:-1] > HOLE_BYTES) | (grid[1:] != grid[:-1])
        return np.split(rows, np.flatnonzero(cut) + 1)

    @property
    def is_sparse(self) -> bool:
        return isinstance(self.table, DiskCsr)

    @cached_property
    def scan(self) -> StoredScan:
        """What one pass over all values found; the pass is made once."""
        return scan_chunks(self.chunks(), self.shape)

    def most_nonzero(self, rows: np.ndarray) -> int:
        """A number of non-zero entries that rows, ``(n,)``, do not exceed."""
        if not self.is_sparse:
            return int(self.scan.row_filled[rows].sum())
        return int((self._offsets[rows + 1] - self._offsets[rows]).sum()) // BYTES_A_NONZERO

    @cached_property
    def bytes_a_row(self) -> float:
        """Memory that an average row takes, stored as it is on disk."""
        return float(self._offsets[-1]) / max(1, self.table.shape[0])

    @cached_property
    def _offsets(self) -> np.ndarray:
        return self.table.offsets()

    def _grid(self, n_bytes: int) -> int:
        """A multiple of what is stored together, near to a wanted size."""
        together = self.table.aligned_bytes
        return max(1, n_bytes // together) * together

    def _spans(self, n_bytes: int) -> Iterator[tuple[int, int]]:
        n_rows, start = self.table.shape[0], 0
        while start < n_rows:
            limit = self._offsets[start] + self._grid(n_bytes)
            stop = int(np.searchsorted(self._offsets, limit, side="right")) - 1
            # Rows without a value take no bytes: the number of rows needs a bound of its own.
            stop = min(max(stop, start + 1), start + n_bytes // 64, n_rows)
            yield start, stop
            start = stop


@dataclass(frozen=True)
class StoredRows:
    """Checked values on disk: rows come as float32, in the form that values in memory have.

    Parameters
    ----------
    matrix
        The stored matrix.
    sparse
        True if rows come as canonical CSR, False if dense.
    binary
        True if every count above 0 is read as 1.
    has_missing
        True if entries may be NaN; the row's reader masks them.
    rows
        Stored row of each row here, rising, ``(N_m,)``; None means all.
    totals
        Sum of every row (number of open peaks if ``binary``), ``(N_m,)``, float64.
    """

    matrix: StoredMatrix
    sparse: bool
    binary: bool
    has_missing: bool
    rows: np.ndarray | None
    totals: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.totals), self.matrix.shape[1]

    @property
    def bytes_a_row(self) -> float:
        """Memory that an average row takes in the form it comes in."""
        stored = self.matrix.bytes_a_row
        return stored if self.sparse else max(stored, 4.0 * self.shape[1])

    @property
    def never_observed(self) -> np.ndarray:
        """Features that are NaN in every row, ``(F,)``, bool."""
        return self.matrix.scan.column_missing >= self.matrix.shape[0]

    def take(self, rows: np.ndarray) -> Matrix:
        """Gather rows in any order; those that lie together are read together.

        Parameters
        ----------
        rows
            Positions, ``(n,)``; repeats are allowed.

        Returns
        -------
        csr_matrix or ndarray
            ``(n, F)``, float32.
        """
        stored = rows if self.rows is None else self.rows[rows]
        order = np.argsort(stored, kind="stable")
        rising = stored[order]
        taken = self._join_sparse(rising) if self.sparse else self._join_dense(rising)
        if np.array_equal(order, np.arange(len(order))):
            return taken
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return taken[back]

    def _formed(self, chunk: Matrix) -> Matrix:
        values = matrices.as_float32(chunk)
        values = sp.csr_matrix(values) if self.sparse else matrices.dense(values)
        return matrices.binarised(values) if self.binary else values

    def _pieces(self, rising: np.ndarray) -> Iterator[Matrix]:
        for run in self.matrix.runs(rising):
            first, stop = int(run[0]), int(run[-1]) + 1
            piece = self._formed(self.matrix.chunk(first, stop))
            yield piece if _is_range(run) else piece[run - first]

    def _join_dense(self, rising: np.ndarray) -> np.ndarray:
        joined = np.empty((len(rising), self.shape[1]), dtype=np.float32)
        start = 0
        for piece in self._pieces(rising):
            joined[start : start + piece.shape[0]] = matrices.dense(piece)
            start += piece.shape[0]
        return joined

    def _join_sparse(self, rising: np.ndarray) -> sp.csr_matrix:
        # Stacking pieces would hold everything twice.
        most = self.matrix.most_nonzero(rising)
        data, columns = np.empty(most, dtype=np.float32), np.empty(most, dtype=np.int32)
        lengths, start = [np.zeros(1, dtype=np.int64)], 0
        for piece in map(sp.csr_matrix, self._pieces(rising)):
            stop = start + piece.nnz
            data[start:stop], columns[start:stop] = piece.data, piece.indices
            lengths.append(np.diff(piece.indptr))
            start = stop
        pointers = np.cumsum(np.concatenate(lengths))
        return sp.csr_matrix((data[:start], columns[:start], pointers), shape=(len(rising), self.shape[1]))


def matrix_of(values: object, source: Source) -> Matrix | StoredMatrix:
    """Return what ``X`` or a layer holds: `matrices.plain` in memory, a `StoredMatrix` on disk.

    Raises
    ------
    InputError
        If it is neither, or not of real numbers.
    """
    if not is_on_disk(values):
        return matrices.plain(values, source)
    table = open_table(values, source)
    matrices.check_dtype(table.dtype, source)
    return StoredMatrix(table, source)


def summarise(matrix: Matrix | StoredMatrix) -> memory_scan.ValueSummary:
    """Scan every value, wherever it is."""
    return matrix.scan.summary if isinstance(matrix, StoredMatrix) else memory_scan.summarise(matrix)


def first_where(
    matrix: Matrix | StoredMatrix, fault: Callable[[np.ndarray], np.ndarray]
) -> tuple[int, int, float] | None:
    """Row, column and value of the first entry, in reading order, that ``fault`` marks."""
    if not isinstance(matrix, StoredMatrix):
        return memory_scan.first_where(matrix, fault)
    for start, chunk in matrix.chunks():
        found = memory_scan.first_where(chunk, fault)
        if found is not None:
            return start + found[0], found[1], found[2]
    return None


def columns_of(matrix: Matrix | StoredMatrix, columns: np.ndarray) -> Matrix | StoredMatrix:
    """Columns in a wanted order, of a matrix that may be on disk."""
    if not isinstance(matrix, StoredMatrix):
        return matrices.take_columns(matrix, columns)
    if np.array_equal(columns, np.arange(matrix.shape[1])):
        return matrix
    return replace(
        matrix, columns=columns, source=matrix.source.with_features(list(matrix.source.features[columns]))
    )


def take_rows(values: Matrix | StoredRows, rows: np.ndarray) -> Matrix:
    """Gather rows, wherever they are."""
    return values.take(rows) if isinstance(values, StoredRows) else values[rows]


def bytes_a_row(values: Matrix | StoredRows) -> float:
    """Memory that an average row takes."""
    if isinstance(values, StoredRows):
        return values.bytes_a_row
    n_bytes = values.nbytes if isinstance(values, np.ndarray) else BYTES_A_NONZERO * int(values.nnz)
    return float(n_bytes / max(1, values.shape[0]))


def _is_range(run: np.ndarray) -> bool:
    return int(run[-1] - run[0]) + 1 == len(run) and bool((np.diff(run) == 1).all())
