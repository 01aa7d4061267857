"""Values kept on the training device give the minibatches that values in memory give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from handmade_models import mixed_data
from multiomics_vae.data.loader import MinibatchLoader
from multiomics_vae.data.placement import with_resident_values
from multiomics_vae.data.resident import ResidentRows, n_bytes

CPU = torch.device("cpu")


@pytest.mark.parametrize("rows", [[], [0], [3, 1, 1, 4], list(range(5))])
def test_gathered_rows_are_those_of_scipy(rows: list[int]) -> None:
    rng = np.random.default_rng(0)
    dense = rng.poisson(0.7, size=(5, 8)).astype(np.float32)
    dense[1] = 0
    matrix = sp.csr_matrix(dense)
    taken = ResidentRows(matrix, CPU).take(np.array(rows, dtype=np.int64))
    taken.validate()
    np.testing.assert_array_equal(taken.to_dense().numpy(), dense[rows])
    assert taken.columns.dtype == torch.int64


def test_minibatches_are_the_same() -> None:
    data = mixed_data(40)
    resident = with_resident_values(data, CPU, budget=10**9)
    assert any(part.resident is not None for part in resident.modalities)
    assert all(part.resident is None for part in data.modalities)
    loaders = [MinibatchLoader(each, np.arange(40), 7, np.random.default_rng(0)) for each in (data, resident)]
    for one, same in zip(*loaders, strict=True):
        assert torch.equal(one.cells, same.cells)
        for ours, theirs in zip(one.modalities, same.modalities, strict=True):
            assert torch.equal(ours.dense, theirs.dense)
            assert torch.equal(ours.rows, theirs.rows)


def test_the_smallest_go_first_and_what_does_not_fit_stays() -> None:
    data = mixed_data(40)
    sparse = [m for m, part in enumerate(data.modalities) if sp.issparse(part.values)]
    m = sparse[0]
    wide = replace(data.modalities[m], values=sp.csr_matrix(np.ones((40, 500), dtype=np.float32)))
    data = replace(data, modalities=(data.modalities[m], wide))
    small, large = (n_bytes(part.values) for part in data.modalities)
    assert small < large
    for budget, expected in (
        (small - 1, [False, False]),
        (large, [True, False]),
        (small + large, [True, True]),
    ):
        parts = with_resident_values(data, CPU, budget).modalities
        assert [part.resident is not None for part in parts] == expected
