"""Rows of a CSR matrix in memory, gathered into a minibatch."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from multiomics_vae.kernels import SparseRows

FEWEST_COMPILED = 2**17  # stored entries; below, compiling costs more than it saves


def gathered_rows(matrix: sp.csr_matrix, rows: np.ndarray) -> SparseRows:
    """Some rows in the order wanted; canonical rows stay canonical.

    Parameters
    ----------
    matrix
        ``(N, F)``, float32.
    rows
        Positions, ``(B,)``.

    Returns
    -------
    SparseRows
        ``(B, F)``, a copy.

    Examples
    --------
    >>> gathered_rows(sp.csr_matrix(np.eye(3, dtype=np.float32)), np.array([2])).columns
    tensor([2])
    """
    lengths = matrix.indptr[rows + 1] - matrix.indptr[rows]  # (B,)
    pointers = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=pointers[1:])
    if pointers[-1] < FEWEST_COMPILED or matrix.data.dtype != np.float32:
        taken = matrix[rows]
        columns, values = taken.indices.astype(np.int64), taken.data
    else:
        # Imported here, because the compiler loads slowly.
        from multiomics_vae.kernels.compiled.entries import gather_entries

        columns, values = np.empty(pointers[-1], np.int64), np.empty(pointers[-1], np.float32)
        starts = matrix.indptr[rows].astype(np.int64)
        gather_entries(matrix.indices, matrix.data, starts, pointers, columns, values)
    return SparseRows(
        torch.from_numpy(pointers), torch.from_numpy(columns), torch.from_numpy(values), matrix.shape[1]
    )
