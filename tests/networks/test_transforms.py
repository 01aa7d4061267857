"""Every input transform against its formula in numpy, and what all of them must keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from handmade_models import data_of, table
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.data.statistics import feature_statistics
from multiomics_vae.errors import InputError
from multiomics_vae.kernels import SparseRows
from multiomics_vae.networks.transforms import TRANSFORMS, InputTransform

N_CELLS = 30
SPARSE = pytest.mark.parametrize("sparse", [True, False])


def counts(seed: int = 0) -> np.ndarray:
    """Counts that are 0 in half of the places, an empty cell and a feature never seen."""
    rng = np.random.default_rng(seed)
    values = rng.poisson(1.5, (N_CELLS, 7)) * (rng.random((N_CELLS, 7)) < 0.7)
    values[3] = 0
    values[:, 5] = 0
    values[0, 0] = 4
    return values.astype(float)


def counted(sparse: bool) -> MultimodalData:
    """Counts that serve every transform: they can be read as codes too, and have a coverage."""
    values = counts()
    coverage = values + np.random.default_rng(1).poisson(2.0, values.shape)
    depth = np.maximum(values.sum(1), 1.0)
    return data_of([table(values, coverage=coverage, depth=depth, sparse=sparse)], ["nb"])


def transformed(
    transform: InputTransform, data: MultimodalData, cells: np.ndarray | None = None
) -> np.ndarray:
    found = transform(make_minibatch(data, np.arange(data.n_cells) if cells is None else cells).modalities[0])
    return (found.to_dense() if isinstance(found, SparseRows) else found).numpy()


def fitted(name: str, data: MultimodalData) -> InputTransform:
    return TRANSFORMS[name](feature_statistics(data, 0, np.arange(data.n_cells)))


@SPARSE
@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_a_row_does_not_depend_on_the_others(name: str, sparse: bool) -> None:
    data = counted(sparse)
    transform = fitted(name, data)
    everything = transformed(transform, data)
    assert everything.shape == (N_CELLS, transform.n_outputs)
    cells = np.array([7, 3, 20])
    np.testing.assert_allclose(transformed(transform, data, cells), everything[cells], rtol=1e-6)
    np.testing.assert_allclose(transformed(transform, data, cells[:1]), everything[cells[:1]], rtol=1e-6)


@SPARSE
@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_nothing_is_learned_and_nothing_changed(name: str, sparse: bool) -> None:
    data = counted(sparse)
    transform = fitted(name, data)
    assert list(transform.parameters()) == []
    batch = make_minibatch(data, np.arange(N_CELLS)).modalities[0]
    before = batch.dense.clone()
    transform(batch)
    torch.testing.assert_close(batch.dense, before, rtol=0.0, atol=0.0)


@SPARSE
@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_values_are_finite_also_for_an_empty_cell(name: str, sparse: bool) -> None:
    data = counted(sparse)
    assert np.isfinite(transformed(fitted(name, data), data)).all()


@SPARSE
def test_log1p_is_log_of_counts_per_ten_thousand(sparse: bool) -> None:
    data, x = counted(sparse), counts()
    expected = np.log1p(1e4 * x / np.maximum(x.sum(1, keepdims=True), 1.0))
    np.testing.assert_allclose(transformed(fitted("log1p", data), data), expected, rtol=1e-5)


@SPARSE
def test_log1p_raw_is_log_of_one_more(sparse: bool) -> None:
    data = counted(sparse)
    np.testing.assert_allclose(transformed(fitted("log1p_raw", data), data), np.log1p(counts()), rtol=1e-6)


@SPARSE
def test_binarise_is_presence(sparse: bool) -> None:
    data = counted(sparse)
    np.testing.assert_array_equal(transformed(fitted("binarise", data), data), counts() > 0)


@SPARSE
def test_clr_is_centred_over_the_proteins_of_a_cell(sparse: bool) -> None:
    data = counted(sparse)
    logs = np.log1p(counts())
    expected = logs - logs.mean(1, keepdims=True)
    np.testing.assert_allclose(transformed(fitted("clr", data), data), expected, atol=1e-6)


@SPARSE
def test_tfidf_is_latent_semantic_indexing(sparse: bool) -> None:
    data = counted(sparse)
    is_open = counts() > 0
    share = np.maximum(is_open.mean(0), 1e-6)
    frequency = is_open / np.maximum(is_open.sum(1, keepdims=True), 1)
    weighted = np.log1p(1e4 * frequency * np.log(1.0 + 1.0 / share))
    length = np.linalg.norm(weighted, axis=1, keepdims=True)
    expected = weighted / np.maximum(length, 1e-12)
    assert (length == 0).sum() == 1  # the empty cell stays at 0
    np.testing.assert_allclose(transformed(fitted("tfidf", data), data), expected, rtol=1e-5)


@SPARSE
def test_methylation_is_the_share_shrunk_to_the_average(sparse: bool) -> None:
    data, x = counted(sparse), counts()
    batch = make_minibatch(data, np.arange(N_CELLS)).modalities[0]
    assert batch.coverage is not None
    coverage = batch.coverage.numpy().astype(float)
    covered = coverage.sum(0)
    average = np.where(covered > 0, x.sum(0) / np.maximum(covered, 1.0), 0.5)
    expected = (x + average) / (coverage + 1.0) - average
    found = transformed(fitted("methylation_fraction", data), data)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found[coverage == 0]).max() < 1e-7


def test_methylation_without_coverage_is_refused() -> None:
    data = data_of([table(counts(), sparse=True)], ["nb"])
    with pytest.raises(InputError, match="coverage_layers"):
        transformed(fitted("methylation_fraction", data), data)


# --- real values and codes, some not measured --------------------------------------------------------


def real(masked: bool) -> tuple[MultimodalData, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    x = rng.normal([3.0, -40.0, 0.0, 7.0], [1.0, 20.0, 1e-3, 0.0], (N_CELLS, 4))
    observed = rng.random(x.shape) < (0.7 if masked else 2.0)
    observed[0] = True
    return data_of([table(x * observed, observed=observed if masked else None)], ["gaussian"]), x, observed


@pytest.mark.parametrize("masked", [True, False])
def test_standardise_counts_only_what_was_measured(masked: bool) -> None:
    data, x, observed = real(masked)
    measured = np.where(observed, x, np.nan)
    sd = np.nanstd(measured, axis=0)
    expected = (measured - np.nanmean(measured, axis=0)) / np.where(sd > 0, sd, 1.0)
    expected[:, 3] = 0.0  # constant
    found = transformed(fitted("standardise", data), data)
    np.testing.assert_allclose(found[:, :4], np.nan_to_num(expected), atol=2e-3)
    if masked:
        np.testing.assert_array_equal(found[:, 4:], observed)
    else:
        assert found.shape[1] == 4


def test_a_mask_where_training_had_none_still_hides() -> None:
    """Other cells may lack values that every training cell had: the input is then the mean, 0."""
    whole, _, _ = real(masked=False)
    transform = fitted("standardise", whole)
    data, _, observed = real(masked=True)
    found = transformed(transform, data)
    assert found.shape[1] == 4
    assert np.abs(found[~observed]).max() == 0.0


def test_whole_cells_are_marked_as_measured_where_training_had_gaps() -> None:
    masked, _, _ = real(masked=True)
    transform = fitted("standardise", masked)
    found = transformed(transform, real(masked=False)[0])
    np.testing.assert_array_equal(found[:, 4:], 1.0)


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1.0, 1e6])
def test_standardise_does_not_depend_on_the_unit(unit: float) -> None:
    x = np.random.default_rng(0).normal(5.0, 2.0, (N_CELLS, 3))
    plain, scaled = (data_of([table(values)], ["gaussian"]) for values in (x, x * unit))
    np.testing.assert_allclose(
        transformed(fitted("standardise", scaled), scaled),
        transformed(fitted("standardise", plain), plain),
        atol=1e-4,
    )


@pytest.mark.parametrize("constant", [0.0, 2.3, -3.3e4, 7e-9])
def test_a_constant_feature_is_zero(constant: float) -> None:
    data = data_of([table(np.full((N_CELLS, 1), constant))], ["gaussian"])
    found = transformed(fitted("standardise", data), data)
    assert np.abs(found).max() <= 1e-6 * max(abs(constant), 1.0)


def codes(masked: bool) -> tuple[MultimodalData, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = np.stack(
        [rng.integers(0, 2, N_CELLS), rng.integers(0, 4, N_CELLS), rng.integers(0, 3, N_CELLS)], axis=1
    )
    x[0] = [1, 3, 2]
    observed = rng.random(x.shape) < (0.7 if masked else 2.0)
    observed[0] = True
    return data_of([table(x * observed, observed=observed if masked else None)], ["categorical"]), x, observed


@pytest.mark.parametrize("masked", [True, False])
def test_one_hot_marks_the_category_of_what_was_measured(masked: bool) -> None:
    data, x, observed = codes(masked)
    expected = np.concatenate(
        [np.eye(n)[x[:, f]] * observed[:, [f]] for f, n in enumerate((2, 4, 3))], axis=1
    )
    np.testing.assert_array_equal(transformed(fitted("one_hot", data), data), expected)


@pytest.mark.parametrize(("feature", "code"), [(0, 2), (1, 9), (2, 3)])
def test_one_hot_refuses_a_code_that_training_did_not_have(feature: int, code: int) -> None:
    data, _, _ = codes(masked=False)
    transform = fitted("one_hot", data)
    values = data.modalities[0].values.copy()
    values[5, feature] = code
    other = replace(data, modalities=(replace(data.modalities[0], values=values),))
    with pytest.raises(InputError, match=f"Feature {feature} has the code {code}"):
        transformed(transform, other)
