"""Sparse rows cut down to some of their features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.kernels.compiled.blocks import give_way
from multiomics_vae.kernels.compiled.entries import keep_entries
from multiomics_vae.kernels.sparse_rows import SparseRows

CELLS_IN_PIECE = 32  # between two of which others may have the processor


def kept_entries(data: SparseRows, features: Tensor) -> SparseRows:
    """The stored entries of some features, which are numbered anew.

    Parameters
    ----------
    data
        ``(B, F)``, float32, on a processor.
    features
        Which, increasing, ``(n,)``, int64.

    Returns
    -------
    SparseRows
        ``(B, n)``.

    Examples
    --------
    >>> rows = SparseRows.from_dense(torch.tensor([[1.0, 2.0, 3.0]]))
    >>> kept_entries(rows, torch.tensor([1, 2])).values
    tensor([2., 3.])
    """
    pointers, columns, values = data.row_pointers.numpy(), data.columns.numpy(), data.values.numpy()
    place = np.full(data.n_features, -1, np.int32)  # (F,)
    place[features.numpy()] = np.arange(len(features), dtype=np.int32)
    starts = np.zeros(data.n_cells + 1, np.int64)  # (B + 1,)
    most = len(columns) + 1  # memory that nobody writes to is not taken
    new_columns, new_values = np.empty(most, np.int64), np.empty(most, np.float32)
    for low in range(0, data.n_cells, CELLS_IN_PIECE):
        give_way()
        high = min(low + CELLS_IN_PIECE, data.n_cells)
        keep_entries(pointers, columns, values, place, starts, new_columns, new_values, low, high)
    kept = slice(0, starts[-1])
    return SparseRows(
        torch.from_numpy(starts),
        torch.from_numpy(new_columns[kept]),
        torch.from_numpy(new_values[kept]),
        len(features),
    )
