"""Sparse rows cut down to some of their features, by threads that each take some of the rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.kernels.compiled.blocks import Blocks
from multiomics_vae.kernels.compiled.entries import copy_kept, count_kept
from multiomics_vae.kernels.sparse_rows import SparseRows


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
    with Blocks() as blocks:

        def count(_: int, low: int, high: int) -> None:
            count_kept(pointers[low : high + 1], columns, place, starts[low + 1 : high + 1])

        blocks.each(data.n_cells, count)
        np.cumsum(starts, out=starts)
        new_columns, new_values = np.empty(starts[-1], np.int64), np.empty(starts[-1], np.float32)

        def copy(_: int, low: int, high: int) -> None:
            copy_kept(
                pointers[low : high + 1], columns, values, place, starts[low:high], new_columns, new_values
            )

        blocks.each(data.n_cells, copy)
    return SparseRows(
        torch.from_numpy(starts), torch.from_numpy(new_columns), torch.from_numpy(new_values), len(features)
    )
