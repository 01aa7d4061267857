"""Minibatches hold the values of the cells asked for, in their order, and only where measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from handmade_models import data_of, mixed_data, table
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import MinibatchLoader, make_minibatch


def values_of(data: MultimodalData, modality: int) -> np.ndarray:
    """Dense values of all N cells, NaN where the modality lacks the cell."""
    part = data.modalities[modality]
    stored = part.values if isinstance(part.values, np.ndarray) else part.values.toarray()
    full = np.full((data.n_cells, stored.shape[1]), np.nan, dtype=np.float32)
    has = part.row_of_cell >= 0
    full[has] = stored[part.row_of_cell[has]]
    return full


@pytest.mark.parametrize("cells", [[4, 2, 17, 2], [0], [39, 38, 37], list(range(40))])
def test_values_are_those_of_the_cells_in_their_order(cells: list[int]) -> None:
    data = mixed_data(40)
    minibatch = make_minibatch(data, np.array(cells))
    assert minibatch.cells.tolist() == cells
    assert minibatch.n_cells == len(cells)
    np.testing.assert_array_equal(minibatch.present.numpy(), data.present[cells])
    np.testing.assert_array_equal(minibatch.covariates.batch.numpy(), data.batch[cells])
    for m, batch in enumerate(minibatch.modalities):
        expected = values_of(data, m)[cells]
        has = ~np.isnan(expected).any(1)
        assert batch.rows.tolist() == np.flatnonzero(has).tolist()
        np.testing.assert_array_equal(batch.dense.numpy(), expected[has])
        part = data.modalities[m]
        rows = part.row_of_cell[np.array(cells)[has]]
        np.testing.assert_array_equal(batch.depth.numpy(), part.depth[rows])
        if part.observed is not None:
            assert batch.observed is not None
            np.testing.assert_array_equal(batch.observed.numpy(), part.observed[rows])


def test_coverage_goes_with_its_counts() -> None:
    coverage = np.arange(12).reshape(4, 3) + 5
    values = coverage // 2
    for sparse in (True, False):
        data = data_of([table(values, coverage=coverage, sparse=sparse)], ["beta_binomial"])
        batch = make_minibatch(data, np.array([3, 1])).modalities[0]
        assert batch.coverage is not None
        np.testing.assert_array_equal(batch.coverage.numpy(), coverage[[3, 1]])
        np.testing.assert_array_equal(batch.dense.numpy(), values[[3, 1]])


def test_writing_into_a_minibatch_does_not_reach_the_data() -> None:
    data = mixed_data(10, missing=0.0)
    before = values_of(data, 2).copy()
    batch = make_minibatch(data, np.arange(10)).modalities[2]
    assert isinstance(batch.values, torch.Tensor)
    batch.values.zero_()
    np.testing.assert_array_equal(values_of(data, 2), before)


def test_a_modality_that_no_cell_of_the_minibatch_has_is_empty() -> None:
    data = mixed_data(40)
    lacking = np.flatnonzero(~data.present[:, 0])[:3]
    batch = make_minibatch(data, lacking).modalities[0]
    assert len(batch.rows) == 0
    assert batch.dense.shape == (0, 12)


def test_covariates_follow_the_cells() -> None:
    base = mixed_data(8)
    data = replace(
        base,
        categorical=np.arange(16).reshape(8, 2),
        continuous=np.linspace(0.0, 1.0, 8, dtype=np.float32)[:, None],
    )
    covariates = make_minibatch(data, np.array([5, 1])).covariates
    assert covariates.categorical.tolist() == [[10, 11], [2, 3]]
    np.testing.assert_allclose(covariates.continuous[:, 0], data.continuous[[5, 1], 0])


# --- the loader --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 40, 100])
def test_every_cell_is_visited_once_in_order(batch_size: int) -> None:
    cells = np.random.default_rng(0).permutation(40)[:33]
    loader = MinibatchLoader(mixed_data(40), cells, batch_size)
    visited = [minibatch.cells.numpy() for minibatch in loader]
    assert len(visited) == len(loader) == int(np.ceil(33 / batch_size))
    assert all(len(part) == batch_size for part in visited[:-1])
    np.testing.assert_array_equal(np.concatenate(visited), cells)


def test_a_pass_shuffles_the_same_cells_anew() -> None:
    cells = np.arange(5, 30)
    loader = MinibatchLoader(mixed_data(40), cells, 10, np.random.default_rng(0))
    first, second = (np.concatenate([m.cells.numpy() for m in loader]) for _ in range(2))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, cells)
    for visited in (first, second):
        np.testing.assert_array_equal(np.sort(visited), cells)
    np.testing.assert_array_equal(loader.cells, cells)


def test_the_generator_decides_the_order() -> None:
    data = mixed_data(40)
    orders = []
    for seed in (3, 3, 4):
        loader = MinibatchLoader(data, np.arange(40), 16, np.random.default_rng(seed))
        orders.append(np.concatenate([m.cells.numpy() for m in loader]))
    np.testing.assert_array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])


def test_no_cells_give_no_minibatch() -> None:
    loader = MinibatchLoader(mixed_data(10), np.empty(0, dtype=np.int64), 4)
    assert len(loader) == 0
    assert list(loader) == []
