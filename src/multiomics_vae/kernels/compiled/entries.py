"""Walks over the stored entries of sparse rows: into dense blocks, and down to some of the features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiomics_vae.kernels.compiled.bits import narrowed
from multiomics_vae.kernels.compiled.compile import compiled_loop
from multiomics_vae.kernels.compiled.places import first_at


@compiled_loop
def fill_block(
    pointers: NDArray[np.int64],
    columns: NDArray[np.int64],
    values: NDArray[np.float32],
    first: int,
    block: NDArray[np.floating],
) -> None:
    """Write all entries, zeros included, of some features, features first.

    Parameters
    ----------
    pointers, columns, values
        The data, as in `SparseRows`, B cells.
    first
        Feature of the first row of ``block``.
    block
        Written, ``(n, B)``; of uint16 for bfloat16, which numpy does not know.
    """
    n, n_cells = block.shape
    block[:] = 0
    for cell in range(n_cells):
        low = first_at(columns, pointers[cell], pointers[cell + 1], first)
        high = first_at(columns, low, pointers[cell + 1], first + n)
        column, x = columns[low:high], values[low:high]
        for e in range(len(column)):
            block[column[e] - first, cell] = narrowed(x[e], block)


@compiled_loop
def count_kept(
    pointers: NDArray[np.int64],
    columns: NDArray[np.int64],
    place: NDArray[np.int32],
    counts: NDArray[np.int64],
) -> None:
    """Count the entries of every row whose feature is kept.

    Parameters
    ----------
    pointers, columns
        The rows, as in `SparseRows`.
    place
        New number of every feature, −1 if it is not kept, ``(F,)``.
    counts
        Written, ``(B,)``.
    """
    for cell in range(len(counts)):
        n_kept = 0
        for e in range(pointers[cell], pointers[cell + 1]):
            n_kept += place[columns[e]] >= 0
        counts[cell] = n_kept


@compiled_loop
def copy_kept(
    pointers: NDArray[np.int64],
    columns: NDArray[np.int64],
    values: NDArray[np.float32],
    place: NDArray[np.int32],
    starts: NDArray[np.int64],
    new_columns: NDArray[np.int64],
    new_values: NDArray[np.float32],
) -> None:
    """Copy the entries of kept features under their new numbers.

    Parameters
    ----------
    pointers, columns, values, place
        As for `count_kept`; ``(B + 1,)`` pointers of all rows or of a run of them.
    starts
        Where the kept entries of each of these rows begin, ``(B,)``.
    new_columns, new_values
        Written there.
    """
    for cell in range(len(starts)):
        to = starts[cell]
        for e in range(pointers[cell], pointers[cell + 1]):
            new = place[columns[e]]
            if new >= 0:
                new_columns[to] = new
                new_values[to] = values[e]
                to += 1
