"""Any matrix a MuData can hold, brought into one of two forms: canonical CSR or dense, float32.

The input is never changed. Where it already has the wanted form its memory is shared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from multiomics_vae.data.sources import Matrix, Source
from multiomics_vae.errors import InputError

# Above this share of non-zero entries a CSR matrix takes more memory than a dense one.
DENSE_ABOVE = 0.5


def plain(values: object, source: Source) -> Matrix:
    """Return numbers as a canonical ``csr_matrix`` or a two-dimensional ``ndarray``, dtype unchanged.

    Canonical means sorted indices, no duplicates, no stored zeros. Small integers and bool in a
    sparse matrix become float32 first, because summing duplicates could overflow them.

    Parameters
    ----------
    values
        What ``X`` or a layer holds.
    source
        Its address, for errors.

    Raises
    ------
    InputError
        If it is masked, lazy, or not of real numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> source = Source("rna", None, pd.Index(["c1"]), pd.Index(["g1", "g2"]))
    >>> plain(np.array([[1, 0]]), source).dtype.kind
    'i'
    """
    if isinstance(values, pd.DataFrame):
        values = values.to_numpy()
    if isinstance(values, np.ma.MaskedArray):
        raise InputError(
            f"{source} is a masked array, whose mask would be lost. Write missing values as NaN: "
            f"`{source} = {source}.filled(np.nan)`."
        )
    if sp.issparse(values):
        stored: Any = values
        check_dtype(stored.dtype, source)
        return _canonical_csr(stored)
    if isinstance(values, np.ndarray):
        array = np.asarray(values)
        check_dtype(array.dtype, source)
        if array.ndim != 2:
            raise InputError(
                f"{source} has {array.ndim} dimensions, but must be cells by features. "
                f"Flatten it: `{source} = {source}.reshape(len({source}), -1)`."
            )
        return array
    kind = f"{type(values).__module__}.{type(values).__name__}"
    raise InputError(
        f"{source} is a {kind}, which is neither a numpy array or scipy sparse matrix in memory nor an HDF5 "
        f"or zarr matrix on disk. Read it into memory: `mdata = mudata.read_h5mu(path)`, or leave it on "
        "disk: `mdata = mudata.read_h5mu(path, backed=True)`."
    )


def check_dtype(dtype: np.dtype, source: Source) -> None:
    """Refuse what is not of real numbers."""
    if dtype.kind not in "biuf":
        raise InputError(
            f"{source} has dtype {dtype}, which are not real numbers. "
            f"Convert it: `{source} = {source}.astype('float32')`."
        )


def _canonical_csr(values: Any) -> sp.csr_matrix:
    if values.dtype.kind in "bui" and values.dtype.itemsize < 4:
        values = values.astype(np.float32)
    given = values.tocsr()
    n_stored = int(given.indptr[-1])
    # A new object around the same arrays, so that nothing below marks or sorts the user's own.
    csr = sp.csr_matrix(
        (given.data[:n_stored], given.indices[:n_stored], given.indptr), shape=given.shape, copy=False
    )
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    if np.count_nonzero(csr.data) != csr.nnz:
        csr = csr.copy()
        csr.eliminate_zeros()
    return csr


def as_float32(matrix: Matrix) -> Matrix:
    """Cast to float32, row-contiguous, sharing memory where it already is."""
    if isinstance(matrix, np.ndarray):
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(matrix, dtype=np.float32)
    if matrix.dtype == np.float32:
        return matrix
    with np.errstate(over="ignore"):
        data = matrix.data.astype(np.float32)
    return sp.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape, copy=False)


def compact(matrix: Matrix) -> Matrix:
    """Turn a mostly empty dense matrix into CSR; leave every other matrix as it is."""
    if isinstance(matrix, np.ndarray) and np.count_nonzero(matrix) <= DENSE_ABOVE * matrix.size:
        return sp.csr_matrix(matrix)
    return matrix


def dense(matrix: Matrix) -> np.ndarray:
    """Dense form; a dense matrix is returned as it is."""
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()


def binarised(matrix: Matrix) -> Matrix:
    """1 where a count is above 0; shares memory if all counts are 0 or 1 already."""
    if isinstance(matrix, np.ndarray):
        return (matrix > 0).astype(np.float32) if (matrix > 1).any() else matrix
    if not (matrix.data > 1).any():
        return matrix
    return sp.csr_matrix(
        (np.ones_like(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape, copy=False
    )


def same_form(first: Matrix, second: Matrix) -> tuple[Matrix, Matrix]:
    """Make two matrices both CSR if one of them is, so that they can be read together."""
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first, second
    return sp.csr_matrix(first), sp.csr_matrix(second)


def take_columns(matrix: Matrix, columns: np.ndarray) -> Matrix:
    """Columns in a wanted order; the same object if that is the order already."""
    if len(columns) == matrix.shape[1] and np.array_equal(columns, np.arange(matrix.shape[1])):
        return matrix
    taken = matrix[:, columns]
    if not isinstance(taken, np.ndarray):
        taken.sort_indices()
    return taken


def row_sums(matrix: Matrix) -> np.ndarray:
    """Sum of every row, accumulated in float64, ``(N_m,)``."""
    return np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
