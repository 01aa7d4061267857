"""Rows gathered from a CSR matrix: those asked for, in their order, by either way."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from multiomics_vae.data import gathering
from multiomics_vae.data.gathering import gathered_rows


def matrix(index_type: type) -> sp.csr_matrix:
    made = sp.random(30, 50, density=0.2, format="csr", dtype=np.float32, random_state=0)
    dense = made.toarray()
    dense[7] = 0.0
    made = sp.csr_matrix(dense)
    made.indices, made.indptr = made.indices.astype(index_type), made.indptr.astype(index_type)
    return made


@pytest.mark.parametrize("fewest", [0, 10**9], ids=["compiled", "scipy"])
@pytest.mark.parametrize("index_type", [np.int32, np.int64])
@pytest.mark.parametrize("rows", [[3, 29, 0], [7, 7, 2, 2], [7], []])
def test_gathers_what_scipy_gathers(
    fewest: int, index_type: type, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "FEWEST_COMPILED", fewest)
    whole = matrix(index_type)
    before = whole.copy()
    found = gathered_rows(whole, np.array(rows, dtype=np.int64))
    found.validate()
    assert found.n_features == 50
    np.testing.assert_array_equal(found.to_dense().numpy(), whole[rows].toarray())
    found.values[:] = -1.0
    found.columns[:] = 0
    assert (whole != before).nnz == 0


@pytest.mark.parametrize("fewest", [0, 10**9], ids=["compiled", "scipy"])
def test_a_row_that_there_is_not_is_refused(fewest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "FEWEST_COMPILED", fewest)
    with pytest.raises(IndexError):
        gathered_rows(matrix(np.int32), np.array([30]))
