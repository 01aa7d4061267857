"""Sparse values kept on a GPU, so that only row numbers travel to it at each step."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from multiomics_vae.kernels import SparseRows


class ResidentRows:
    """A CSR matrix on a device, whose rows are gathered there by index arithmetic.

    Parameters
    ----------
    matrix
        ``(N_m, F)``, canonical, float32.
    device
        Where it is kept; columns take 4 bytes there, values 4.

    Examples
    --------
    >>> rows = ResidentRows(sp.csr_matrix(np.eye(3, dtype=np.float32)), torch.device("cpu"))
    >>> rows.take(np.array([2])).columns
    tensor([2])
    """

    def __init__(self, matrix: sp.csr_matrix, device: torch.device) -> None:
        self._pointers = torch.from_numpy(matrix.indptr.astype(np.int64)).to(device)
        self._columns = torch.from_numpy(matrix.indices.astype(np.int32)).to(device)
        self._values = torch.from_numpy(matrix.data).to(device)
        self.shape: tuple[int, int] = matrix.shape

    def take(self, rows: np.ndarray) -> SparseRows:
        """Gather rows, ``(n,)`` positions in the order wanted; on the device of the matrix."""
        chosen = torch.from_numpy(rows).to(self._pointers.device)
        starts, ends = self._pointers[chosen], self._pointers[chosen + 1]  # (n,)
        pointers = torch.cat([starts.new_zeros(1), (ends - starts).cumsum(0)])  # (n + 1,)
        entries = self._entries(starts, pointers)  # (nnz,)
        return SparseRows(pointers, self._columns[entries].long(), self._values[entries], self.shape[1])

    @staticmethod
    def _entries(starts: Tensor, pointers: Tensor) -> Tensor:
        """Where each gathered entry stands in the whole matrix: its row's start plus its place in the row."""
        n_entries = int(pointers[-1])
        shift = torch.repeat_interleave(starts - pointers[:-1], pointers.diff(), output_size=n_entries)
        return shift + torch.arange(n_entries, device=starts.device)


def n_bytes(matrix: sp.csr_matrix) -> int:
    """Memory that a matrix takes as `ResidentRows`."""
    return 8 * matrix.nnz + 8 * len(matrix.indptr)
