"""The fixed projection is a truncated SVD with unit variances, without the direction of depth."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.decomposition import TruncatedSVD

from handmade_models import data_of, table
from multiomics_vae.architecture import fit_projection
from multiomics_vae.data.statistics import feature_statistics
from multiomics_vae.kernels import SparseRows
from multiomics_vae.networks.projection import Projection
from multiomics_vae.networks.transforms import TRANSFORMS


def low_rank(n_cells: int = 200, n_features: int = 40, rank: int = 4, seed: int = 0) -> np.ndarray:
    """Signal in directions of clearly different strength, and a little noise; non-negative and sparse."""
    rng = np.random.default_rng(seed)
    strength = 3.0 * 0.6 ** np.arange(rank)
    signal = (rng.normal(size=(n_cells, rank)) * strength) @ np.linalg.qr(
        rng.normal(size=(n_features, rank))
    )[0].T
    return np.maximum(signal + 0.05 * rng.normal(size=signal.shape), 0.0).astype(np.float32)


def no_depth(n_cells: int) -> np.ndarray:
    return np.zeros(n_cells)


def project(projection: Projection, x: np.ndarray) -> np.ndarray:
    return projection(torch.as_tensor(x)).numpy()


@pytest.mark.parametrize("sparse", [True, False])
def test_outputs_are_the_truncated_svd_scaled_to_unit_variance(sparse: bool) -> None:
    x = low_rank()
    projection = Projection.fit(sp.csr_matrix(x) if sparse else x, no_depth(len(x)), 3, seed=0)
    found = project(projection, x)
    scores = TruncatedSVD(3, algorithm="arpack", random_state=0).fit_transform(x)
    expected = (scores - scores.mean(0)) / scores.std(0)
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * signs, expected, atol=2e-3)


def test_outputs_have_mean_zero_and_unit_variance() -> None:
    x = low_rank()
    found = project(Projection.fit(x, no_depth(len(x)), 5, seed=0), x)
    np.testing.assert_allclose(found.mean(0), 0.0, atol=1e-4)
    np.testing.assert_allclose(found.std(0), 1.0, rtol=1e-4)


def test_components_span_the_leading_subspace() -> None:
    x = low_rank()
    projection = Projection.fit(x, no_depth(len(x)), 4, seed=0)
    svd = TruncatedSVD(4, algorithm="arpack", random_state=0).fit(x)
    basis = np.linalg.qr(projection.components.numpy())[0]
    cosines = np.linalg.svd(svd.components_ @ basis, compute_uv=False)
    assert cosines.min() > 0.999


def test_the_direction_that_follows_depth_is_left_out() -> None:
    rng = np.random.default_rng(1)
    log_depth = rng.normal(size=300)
    groups = rng.integers(0, 2, (300, 2)) * 2.0 - 1.0
    axes = np.linalg.qr(rng.normal(size=(30, 3)))[0]
    x = np.outer(5.0 * log_depth, axes[:, 0]) + (groups * np.array([2.0, 1.0])) @ axes[:, 1:].T
    x = (x + 0.01 * rng.normal(size=x.shape)).astype(np.float32)
    projection = Projection.fit(x, log_depth, 3, seed=0)
    found = project(projection, x)
    assert projection.n_outputs == 2
    for column in range(2):
        assert abs(np.corrcoef(found[:, column], log_depth)[0, 1]) < 0.2
        assert abs(np.corrcoef(found[:, column], groups[:, column])[0, 1]) > 0.98
    assert Projection.fit(x, rng.normal(size=300), 3, seed=0).n_outputs == 3  # another depth: all stay


def test_one_direction_stays_even_if_all_follow_depth() -> None:
    depth = np.linspace(1.0, 2.0, 50)
    x = np.outer(depth, np.ones(6)).astype(np.float32)
    assert Projection.fit(x, depth, 1, seed=0).n_outputs == 1


def test_fewer_directions_come_back_from_data_that_have_fewer() -> None:
    x = (np.random.default_rng(0).normal(size=(60, 2)) @ np.random.default_rng(1).normal(size=(2, 9))).astype(
        "f4"
    )
    assert Projection.fit(x, no_depth(60), 6, seed=0).n_outputs == 2
    assert Projection.fit(x[:, :3], no_depth(60), 50, seed=0).n_outputs == 2  # at most F − 1


def test_cells_that_are_all_alike_do_not_blow_up_others() -> None:
    alike = np.ones((20, 5), dtype=np.float32)
    projection = Projection.fit(alike, no_depth(20), 3, seed=0)
    assert np.abs(project(projection, 2.0 * alike)).max() < 100.0


def test_sparse_rows_are_projected_as_dense_ones() -> None:
    x = low_rank()
    x[7] = 0.0
    projection = Projection.fit(x, no_depth(len(x)), 3, seed=0)
    dense = torch.as_tensor(x)
    torch.testing.assert_close(
        projection(SparseRows.from_dense(dense)), projection(dense), atol=1e-4, rtol=1e-4
    )


def test_the_seed_decides() -> None:
    x = low_rank()
    first, again = (Projection.fit(x, no_depth(len(x)), 3, seed=4).components for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0.0, atol=0.0)


def test_empty_projection_takes_the_shape_of_a_saved_one() -> None:
    x = low_rank()
    projection = Projection.fit(x, no_depth(len(x)), 3, seed=0)
    empty = Projection.empty(40, 3)
    empty.load_state_dict(projection.state_dict())
    torch.testing.assert_close(empty(torch.as_tensor(x)), projection(torch.as_tensor(x)), rtol=0.0, atol=0.0)


@pytest.mark.parametrize("name", ["tfidf", "log1p"])
def test_it_is_fitted_on_the_chosen_cells_that_have_the_modality(name: str) -> None:
    """More cells than are gathered at once, some without the modality, some held out."""
    rng = np.random.default_rng(0)
    present = rng.random(700) < 0.9
    values = rng.poisson(rng.gamma(1.0, 1.0, (700, 1)) * rng.gamma(1.0, 1.0, 12), (700, 12))
    values[:, 0] += 1
    data = data_of([table(values, present, sparse=True)], ["nb"])
    transform = TRANSFORMS[name](feature_statistics(data, 0, np.arange(700)))
    chosen = np.arange(650)
    found = fit_projection(data, 0, chosen, transform, 4, seed=0)
    kept = values[:650][present[:650]].astype(float)
    depth = kept.sum(1, keepdims=True)
    if name == "log1p":
        expected = np.log1p(1e4 * kept / depth)
    else:
        is_open = kept > 0
        share = (values[present] > 0).mean(0)
        weighted = np.log1p(1e4 * is_open / is_open.sum(1, keepdims=True) * np.log1p(1.0 / share))
        expected = weighted / np.linalg.norm(weighted, axis=1, keepdims=True)
    by_hand = Projection.fit(expected.astype(np.float32), np.log(depth[:, 0]), 4, seed=0)
    assert found.n_outputs == by_hand.n_outputs
    outputs, wanted = project(found, expected.astype("f4")), project(by_hand, expected.astype("f4"))
    signs = np.sign((outputs * wanted).sum(0))
    np.testing.assert_allclose(outputs * signs, wanted, atol=5e-3)
