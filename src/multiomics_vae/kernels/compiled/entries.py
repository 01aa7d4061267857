"""Walks over the stored entries of sparse rows: out of a matrix, into dense blocks, down to some features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiomics_vae.kernels.compiled.bits import narrowed
from multiomics_vae.kernels.compiled.compile import compiled_loop
from multiomics_vae.kernels.compiled.places import first_at


@compiled_loop
def gather_entries(
    columns: NDArray[np.integer],
    values: NDArray[np.float32],
    starts: NDArray[np.int64],
    pointers: NDArray[np.int64],
    new_columns: NDArray[np.int64],
    new_values: NDArray[np.float32],
) -> None:
    """Copy the entries of some rows of a matrix.

    Parameters
    ----------
    columns, values
        Of all entries of the matrix, row after row.
    starts
        Where each wanted row begins there, ``(B,)``.
    pointers
        Where each begins in the copy, and the end, ``(B + 1,)``.
    new_columns, new_values
        Written, ``(nnz,)``.
    """
    for row in range(len(starts)):
        n = pointers[row + 1] - pointers[row]
        there, here = slice(starts[row], starts[row] + n), slice(pointers[row], pointers[row + 1])
        column, new_column = columns[there], new_columns[here]
        for e in range(n):
            new_column[e] = column[e]
        value, new_value = values[there], new_values[here]
        for e in range(n):
            new_value[e] = value[e]


@compiled_loop
def fill_block(
    pointers: NDArray[np.int64],
    columns: NDArray[np.int64],
    values: NDArray[np.float32],
    first: int,
    block: NDArray[np.floating],
) -> None:
    """Write all entries, zeros included, of some features.

    Parameters
    ----------
    pointers, columns, values
        The data, as in `SparseRows`, B cells.
    first
        Feature of the first column of ``block``.
    block
        Written, ``(B, n)``; of uint16 for bfloat16, which numpy does not know.
    """
    n_cells, n = block.shape
    for cell in range(n_cells):
        low = first_at(columns, pointers[cell], pointers[cell + 1], first)
        high = first_at(columns, low, pointers[cell + 1], first + n)
        column, x, row = columns[low:high], values[low:high], block[cell]
        row[:] = 0
        for e in range(len(column)):
            row[column[e] - first] = narrowed(x[e], block)


@compiled_loop
def keep_entries(
    pointers: NDArray[np.int64],
    columns: NDArray[np.int64],
    values: NDArray[np.float32],
    place: NDArray[np.int32],
    starts: NDArray[np.int64],
    new_columns: NDArray[np.int64],
    new_values: NDArray[np.float32],
    low: int,
    high: int,
) -> None:
    """Copy the entries of kept features under their new numbers, row after row.

    Parameters
    ----------
    pointers, columns, values
        The rows, as in `SparseRows`.
    place
        New number of every feature, −1 if it is not kept, ``(F,)``.
    starts
        Where the kept entries of each row begin, and the end, ``(B + 1,)``; written, but for row ``low``.
    new_columns, new_values
        Written, as far as there are kept entries; one place longer than ``columns``.
    low, high
        The rows to copy, up to and without ``high``; those before them are copied.
    """
    to = starts[low]
    for cell in range(low, high):
        for e in range(pointers[cell], pointers[cell + 1]):
            # Written always, and written over if it was not to be: nobody can foresee a condition here.
            new = place[columns[e]]
            new_columns[to] = new
            new_values[to] = values[e]
            to += new >= 0
        starts[cell + 1] = to
