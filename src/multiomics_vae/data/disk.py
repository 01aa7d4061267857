"""Matrices on disk, as rows: a CSR group or a dense array of an HDF5 file or a zarr store.

HDF5 files are opened anew, once for each process, so that a file which the user closes, a worker
thread and a forked process all read well. h5py guards the handle with a lock of its own.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import scipy.sparse as sp
from anndata.abc import CSCDataset, CSRDataset

from multiomics_vae.data.sources import Matrix, Source
from multiomics_vae.errors import InputError

# A value and its column index.
BYTES_A_NONZERO = 8


class DiskTable(Protocol):
    """Rows of one matrix on disk."""

    shape: tuple[int, int]
    dtype: np.dtype

    def read(self, start: int, stop: int) -> Matrix:
        """Read contiguous rows as they are stored."""

    def offsets(self) -> np.ndarray:
        """Where every row begins, in bytes of memory, and where the last one ends: ``(N_m + 1,)``."""

    @property
    def aligned_bytes(self) -> int:
        """Bytes that are read together at the least."""


def is_on_disk(values: object) -> bool:
    """Tell whether X or a layer is a matrix that lies on disk.

    Examples
    --------
    >>> is_on_disk(np.zeros((2, 2)))
    False
    """
    return isinstance(values, CSRDataset | CSCDataset | h5py.Dataset) or _is_zarr_array(values)


def open_table(values: Any, source: Source) -> DiskTable:
    """Find the matrix behind what ``X`` or a layer shows.

    Raises
    ------
    InputError
        If it is stored by columns, closed, damaged, or not in a file of its own.
    """
    if isinstance(values, CSCDataset):
        raise InputError(
            f"{source} is stored by columns (CSC) on disk, so that no cell can be read by itself. Store it "
            f"by rows: `adata = mudata.read_h5mu(path)[{source.modality!r}]; adata.X = adata.X.tocsr(); "
            "adata.write_h5ad('by_rows.h5ad')`, then `anndata.read_h5ad('by_rows.h5ad', backed='r')`."
        )
    if isinstance(values, CSRDataset):
        place = _place_of(values.group, source)
        return DiskCsr(place, (int(values.shape[0]), int(values.shape[1])), source)
    place = _place_of(values, source)
    if len(values.shape) != 2:
        raise InputError(
            f"{source} has {len(values.shape)} dimensions, but must be cells by features. "
            "Read it into memory and flatten it: `mdata = mudata.read_h5mu(path)`."
        )
    return DiskDense(place)


class DiskCsr:
    """A CSR group: ``data``, ``indices`` and ``indptr``; only the last is held in memory."""

    def __init__(self, place: _Place, shape: tuple[int, int], source: Source) -> None:
        self._place, self._where = place, str(source)
        self.shape = shape
        group = place.open()
        self.dtype = np.dtype(group["data"].dtype)
        self._indptr = np.asarray(group["indptr"][:], dtype=np.int64)  # (N_m + 1,)
        n_stored = min(group["data"].shape[0], group["indices"].shape[0])
        whole = len(self._indptr) == shape[0] + 1 and self._indptr[0] == 0 and self._indptr[-1] <= n_stored
        if not whole or (np.diff(self._indptr) < 0).any():
            raise _damaged(self._where, "its row pointers do not fit its values")

    def read(self, start: int, stop: int) -> Matrix:
        first, last = int(self._indptr[start]), int(self._indptr[stop])
        group = self._place.open()
        columns = group["indices"][first:last]
        if len(columns) and not 0 <= columns.min() <= columns.max() < self.shape[1]:
            raise _damaged(self._where, f"a column index lies outside its {self.shape[1]} features")
        parts = (group["data"][first:last], columns, self._indptr[start : stop + 1] - first)
        return sp.csr_matrix(parts, shape=(stop - start, self.shape[1]))

    def offsets(self) -> np.ndarray:
        return self._indptr * BYTES_A_NONZERO

    @property
    def aligned_bytes(self) -> int:
        return BYTES_A_NONZERO


class DiskDense:
    """A dense array; its stored chunks may span many rows."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        array = place.open()
        self.shape = (int(array.shape[0]), int(array.shape[1]))
        self.dtype = np.dtype(array.dtype)
        self._rows_a_chunk = int(array.chunks[0]) if array.chunks else 1

    def read(self, start: int, stop: int) -> Matrix:
        return np.asarray(self._place.open()[start:stop])

    def offsets(self) -> np.ndarray:
        return np.arange(self.shape[0] + 1, dtype=np.int64) * self._row_bytes

    @property
    def aligned_bytes(self) -> int:
        return int(self._rows_a_chunk * self._row_bytes)

    @property
    def _row_bytes(self) -> int:
        return max(1, self.shape[1]) * max(4, int(self.dtype.itemsize))


class _Place(Protocol):
    def open(self) -> Any:
        """Return the group or array, ready to be read."""


@dataclass(frozen=True)
class _OpenPlace:
    """A zarr group or array, which any thread or process can read as it is."""

    stored: Any

    def open(self) -> Any:
        return self.stored


class _H5Place:
    """A group or dataset of an HDF5 file, by the names of both."""

    def __init__(self, path: Path, name: str, source: Source) -> None:
        self._path, self._name, self._where = path, name, str(source)
        self._stamp = self._look()
        self._lock = threading.Lock()
        self._opened: tuple[int, Any] | None = None

    @classmethod
    def of(cls, stored: h5py.Group | h5py.Dataset, source: Source) -> _H5Place:
        if not stored.id.valid:
            raise InputError(
                f"The file behind {source} is closed. Open it again: "
                "`mdata = mudata.read_h5mu(path, backed=True)`."
            )
        path = Path(stored.file.filename).absolute()
        if not path.is_file():
            raise InputError(
                f"{source} lies in {stored.file.filename!r}, which is not a file on this machine's disk. "
                "Copy it there first: `mdata = mudata.read_h5mu('copy.h5mu', backed=True)`."
            )
        return cls(path, stored.name, source)

    def _look(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise InputError(
                f"{self._where} was in {self._path}, which cannot be found any more: {error.strerror}. "
                "Put the file back, or register the data anew: `model = MultiVAE(mdata)`."
            ) from error
        return found.st_size, found.st_mtime_ns

    def open(self) -> Any:
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                if self._look() != self._stamp:
                    raise InputError(
                        f"{self._path} has changed since {self._where} was registered from it. Register it "
                        "anew: `mdata = mudata.read_h5mu(path, backed=True); model = MultiVAE(mdata)`."
                    )
                self._opened = os.getpid(), h5py.File(self._path, "r")[self._name]
            return self._opened[1]


def _place_of(stored: Any, source: Source) -> _Place:
    return (
        _H5Place.of(stored, source) if isinstance(stored, h5py.Group | h5py.Dataset) else _OpenPlace(stored)
    )


def _damaged(where: str, what: str) -> InputError:
    return InputError(
        f"{where} is damaged on disk: {what}. Restore the file from where it came, and open it again: "
        "`mdata = mudata.read_h5mu(path, backed=True)`."
    )


def _is_zarr_array(values: object) -> bool:
    # zarr is no dependency: what is not imported cannot have made the array.
    return type(values).__module__.partition(".")[0] == "zarr" and hasattr(values, "chunks")
