"""Feature statistics against numpy and pandas, for every form of storage."""

from __future__ import annotations

import warnings
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import torch

from handmade_models import data_of, table
from multiomics_vae.data.dataset import ModalityData, MultimodalData
from multiomics_vae.data.statistics import feature_statistics
from multiomics_vae.likelihoods import LIKELIHOODS

N_CELLS = 80
STORED = pytest.mark.parametrize("sparse", [True, False])


def counts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, which cells have them, and batches; feature 4 is 0 throughout."""
    rng = np.random.default_rng(0)
    values = rng.poisson(rng.gamma(0.5, 3.0, (N_CELLS, 6))).astype(float)
    values[:, 4] = 0.0
    return values, rng.random(N_CELLS) < 0.8, rng.integers(0, 3, N_CELLS)


def counted(sparse: bool) -> MultimodalData:
    values, present, batch = counts()
    depth = np.maximum(values.sum(1), 1.0)
    return data_of([table(values, present, depth=depth, sparse=sparse)], ["nb"], batch=batch)


@STORED
def test_counts_agree_with_pandas(sparse: bool) -> None:
    values, present, batch = counts()
    cells = np.arange(5, 70)
    found = feature_statistics(counted(sparse), 0, cells)
    used = np.zeros(N_CELLS, dtype=bool)
    used[cells] = True
    used &= present
    x, frame = values[used], pd.DataFrame(np.log1p(values[used]))
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.variance, x.var(0), rtol=1e-5)
    np.testing.assert_allclose(found.nonzero_fraction, (x > 0).mean(0), rtol=1e-6)
    depth = np.maximum(x.sum(1), 1.0)
    np.testing.assert_allclose(found.mean_frequency, x.sum(0) / depth.sum(), rtol=1e-6)
    expected = depth[:, None] * x.sum(0) / depth.sum()
    with np.errstate(invalid="ignore"):
        spread = ((x - expected) ** 2 - x).sum(0) / (expected**2).sum(0)
    np.testing.assert_allclose(
        found.overdispersion, np.nan_to_num(np.maximum(spread, 0)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(found.log1p_mean, frame.groupby(batch[used]).mean(), rtol=1e-5)
    np.testing.assert_allclose(found.log1p_sd, frame.groupby(batch[used]).std(ddof=0), rtol=1e-4, atol=1e-6)
    assert found.mean_log_depth == pytest.approx(np.log(depth).mean())
    assert (found.n_features, found.n_batches, found.has_unobserved) == (6, 3, False)


def test_sparse_and_dense_storage_agree() -> None:
    dense, sparse = (feature_statistics(counted(form), 0, np.arange(N_CELLS)) for form in (False, True))
    for field in fields(dense):
        np.testing.assert_allclose(
            getattr(dense, field.name), getattr(sparse, field.name), rtol=1e-5, atol=1e-7
        )


@STORED
def test_cells_in_any_order_give_the_same(sparse: bool) -> None:
    data = counted(sparse)
    order = np.random.default_rng(1).permutation(N_CELLS)
    first, second = (feature_statistics(data, 0, cells) for cells in (np.arange(N_CELLS), order))
    for field in fields(first):
        np.testing.assert_allclose(getattr(first, field.name), getattr(second, field.name), rtol=1e-6)


@STORED
def test_a_batch_without_cells_takes_the_statistics_of_all(sparse: bool) -> None:
    values, present, batch = counts()
    data = counted(sparse)
    cells = np.flatnonzero(batch != 1)
    found = feature_statistics(data, 0, cells)
    logs = np.log1p(values[cells][present[cells]])
    np.testing.assert_allclose(found.log1p_mean[1], logs.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.log1p_sd[1], logs.std(0), rtol=1e-4, atol=1e-6)


def real(mean: float, sd: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.normal(mean, sd, (N_CELLS, 5)), rng.random((N_CELLS, 5)) < 0.6


@pytest.mark.parametrize(("mean", "sd"), [(2.0, 1.0), (0.0, 1e-9), (1e4, 0.5), (-1e6, 30.0)])
def test_only_measured_entries_count(mean: float, sd: float) -> None:
    x, observed = real(mean, sd)
    data = data_of([table(x * observed, observed=observed)], ["gaussian"])
    found = feature_statistics(data, 0, np.arange(N_CELLS))
    measured = np.where(observed, x.astype(np.float32).astype(float), np.nan)
    np.testing.assert_allclose(found.mean, np.nanmean(measured, axis=0), rtol=1e-6, atol=1e-3 * sd)
    np.testing.assert_allclose(found.variance, np.nanvar(measured, axis=0), rtol=1e-3)
    share = np.nansum(measured > 0, axis=0) / observed.sum(0)
    np.testing.assert_allclose(found.nonzero_fraction, share, rtol=1e-6)
    assert found.has_unobserved


def test_logs_per_batch_count_only_measured_entries() -> None:
    x, observed = real(5.0, 0.5)
    batch = np.arange(N_CELLS) % 2
    data = data_of([table(x * observed, observed=observed)], ["gaussian"], batch=batch)
    found = feature_statistics(data, 0, np.arange(N_CELLS))
    frame = pd.DataFrame(np.where(observed, np.log1p(x), np.nan)).groupby(batch)
    np.testing.assert_allclose(found.log1p_mean, frame.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.log1p_sd, frame.std(ddof=0), rtol=1e-3)


@pytest.mark.parametrize("constant", [2.3, -0.1, 123.456, 1e-8])
def test_a_constant_feature_has_no_variance(constant: float) -> None:
    """Squares in float32 would leave 1e-7 of the squared mean, and a likelihood would believe it."""
    data = data_of([table(np.full((N_CELLS, 1), constant))], ["gaussian"])
    found = feature_statistics(data, 0, np.arange(N_CELLS))
    assert found.variance.item() < 1e-12 * constant**2


def test_methylated_fraction_is_reads_over_reads() -> None:
    rng = np.random.default_rng(3)
    coverage = rng.poisson(2.0, (N_CELLS, 5))
    coverage[:, 3] = 0
    values = rng.binomial(coverage, 0.3)
    for sparse in (True, False):
        data = data_of([table(values, coverage=coverage, sparse=sparse)], ["beta_binomial"])
        found = feature_statistics(data, 0, np.arange(N_CELLS)).methylated_fraction
        expected = np.append(values.sum(0)[[0, 1, 2]] / coverage.sum(0)[[0, 1, 2]], 0.5)
        np.testing.assert_allclose(found[:4], expected, rtol=1e-6)  # never covered: one half


def test_categories_are_one_more_than_the_largest_code() -> None:
    codes = np.random.default_rng(4).integers(0, [2, 5, 1], (N_CELLS, 3))
    codes[0] = [1, 4, 0]
    data = data_of([table(codes)], ["categorical"])
    found = feature_statistics(data, 0, np.arange(N_CELLS)).n_categories
    assert found.tolist() == [2, 5, 1]
    assert found.dtype == torch.int64


@STORED
def test_no_cell_with_the_modality_gives_finite_numbers(sparse: bool) -> None:
    values, present, batch = counts()
    data = counted(sparse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = feature_statistics(data, 0, np.flatnonzero(~present))
    for field in fields(found):
        assert np.isfinite(np.asarray(getattr(found, field.name))).all(), field.name
    assert found.n_categories.tolist() == [1] * values.shape[1]
    assert found.n_batches == batch.max() + 1


def test_frequencies_of_categories_start_the_model_at_the_data() -> None:
    codes = np.array([[0, 2], [1, 0], [1, 0], [1, 1]], dtype=np.float32)
    observed = np.array([[True, True], [True, True], [True, False], [True, True]])
    whole = ModalityData(codes, np.arange(4), np.ones(4, dtype=np.float32), observed)
    found = feature_statistics(data_of([whole], ["categorical"]), 0, np.arange(4))
    # One pseudo-cell is spread over the possible categories of a feature.
    expected = np.array([[1.5, 3.5, 0.0], [1 + 1 / 3] * 3]) / [[5.0], [4.0]]
    np.testing.assert_allclose(found.category_frequency, expected, rtol=1e-6)
    likelihood = LIKELIHOODS["categorical"](found)
    start = likelihood.category_log_probs(tuple(b.unsqueeze(0) for b in likelihood.start_biases(found)))
    np.testing.assert_allclose(start[0].exp(), expected, atol=1e-5)
