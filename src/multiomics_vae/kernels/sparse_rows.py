"""The data of a minibatch as sparse rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from multiomics_vae.errors import InputError


@dataclass(frozen=True)
class SparseRows:
    """B rows of F features, only the non-zeros stored (the CSR format).

    Within a row the columns must increase strictly: sorted, no duplicates. The fused log likelihoods
    rely on it and do not look (`validate` does), because looking at every step costs time. Stored
    zeros are allowed.

    Parameters
    ----------
    row_pointers
        Row i owns the entries ``row_pointers[i]:row_pointers[i + 1]``, ``(B + 1,)``, int64.
    columns
        Feature of each entry, ``(nnz,)``, int64.
    values
        ``(nnz,)``, floating point, on the device of the others.
    n_features
        F.

    Raises
    ------
    InputError
        If shapes or types do not fit.

    Examples
    --------
    >>> SparseRows.from_dense(torch.tensor([[0.0, 2.0], [1.0, 0.0]])).columns
    tensor([1, 0])
    """

    row_pointers: Tensor
    columns: Tensor
    values: Tensor
    n_features: int

    def __post_init__(self) -> None:
        for name in ("row_pointers", "columns"):
            index = getattr(self, name)
            if index.dtype != torch.int64 or index.ndim != 1:
                raise InputError(
                    f"SparseRows.{name} must be one-dimensional and int64, not {index.dtype} of shape "
                    f"{tuple(index.shape)}. For example: {name}.to(torch.int64)"
                )
        if len(self.row_pointers) == 0:
            raise InputError(
                "SparseRows.row_pointers is empty; it holds one number more than there are rows. "
                "Without rows: torch.zeros(1, dtype=torch.int64)"
            )
        if self.values.shape != self.columns.shape:
            raise InputError(
                f"SparseRows holds {len(self.columns)} columns but values of shape "
                f"{tuple(self.values.shape)}. For a scipy CSR matrix: columns=indices, values=data"
            )
        if self.n_features < 1:
            raise InputError(f"SparseRows.n_features must be at least 1, not {self.n_features}.")

    @classmethod
    def from_dense(cls, dense: Tensor) -> SparseRows:
        """Take the non-zeros of a ``(B, F)`` tensor."""
        counts = (dense != 0).sum(1)  # (B,)
        pointers = torch.cat([counts.new_zeros(1), counts.cumsum(0)])  # (B + 1,)
        rows, columns = dense.nonzero(as_tuple=True)
        return cls(pointers, columns, dense[rows, columns], dense.shape[1])

    @property
    def n_cells(self) -> int:
        return self.row_pointers.shape[0] - 1

    def to(self, device: torch.device | str) -> SparseRows:
        """Copy to a device."""
        return SparseRows(
            self.row_pointers.to(device), self.columns.to(device), self.values.to(device), self.n_features
        )

    def with_values(self, values: Tensor) -> SparseRows:
        """The same places with other values."""
        return SparseRows(self.row_pointers, self.columns, values, self.n_features)

    def to_dense(self) -> Tensor:
        """Return all entries, zeros included: ``(B, F)``."""
        dense = self.values.new_zeros(self.n_cells, self.n_features)  # (B, F)
        places = self.row_of_each_entry().mul_(self.n_features).add_(self.columns)  # (nnz,)
        dense.view(-1).scatter_(0, places, self.values)
        return dense

    def row_sums(self) -> Tensor:
        """Sum of each row, ``(B,)``."""
        if self.values.device.type == "cpu":
            return torch.segment_reduce(self.values, "sum", offsets=self.row_pointers)  # (B,)
        sums = self.values.new_zeros(self.n_cells)  # (B,)
        return sums.index_add_(0, self.row_of_each_entry(), self.values)

    def row_of_each_entry(self) -> Tensor:
        """Row of each entry, ``(nnz,)``, int64."""
        return self.for_each_entry(torch.arange(self.n_cells, device=self.columns.device))

    def for_each_entry(self, of_rows: Tensor) -> Tensor:
        """What each entry's row has, ``(nnz,)``, of numbers ``(B,)``."""
        return torch.repeat_interleave(of_rows, self.row_pointers.diff(), output_size=len(self.columns))

    def validate(self) -> None:
        """Raise `InputError` if a pointer or column is out of range, unsorted or duplicated."""
        pointers = self.row_pointers
        if pointers[0] != 0 or pointers[-1] != len(self.columns) or bool((pointers.diff() < 0).any()):
            raise InputError(
                f"SparseRows.row_pointers must rise from 0 to the number of entries, "
                f"{len(self.columns)}; they go from {int(pointers[0])} to {int(pointers[-1])}. "
                "For a scipy CSR matrix: row_pointers=torch.from_numpy(matrix.indptr.astype('int64'))"
            )
        if len(self.columns) == 0:
            return
        lowest, highest = int(self.columns.min()), int(self.columns.max())
        if lowest < 0 or highest >= self.n_features:
            raise InputError(
                f"SparseRows.columns must lie in 0 … {self.n_features - 1}; "
                f"they lie in {lowest} … {highest}. For example: n_features={highest + 1}"
            )
        key = self.row_of_each_entry() * self.n_features + self.columns  # (nnz,)
        bad = (key.diff() <= 0).nonzero()
        if len(bad):
            raise InputError(
                f"SparseRows.columns must increase strictly within a row; entry {int(bad[0]) + 1} does "
                "not. For a scipy matrix, before conversion: matrix.sum_duplicates()"
            )
