"""The simulated cells follow the parameters that the simulation reports."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from multiomics_vae.data.synthetic import (
    ModalityTruth,
    SyntheticData,
    SyntheticModality,
    decoder_input,
    simulate,
)
from multiomics_vae.errors import InputError

RNA = SyntheticModality("rna", 60, depth=5000.0, inverse_dispersion=4.0)
ATAC = SyntheticModality("atac", 80, kind="binary", mean_open=0.2)
REAL = SyntheticModality("real", 20, kind="real", noise_sd=0.4)


@pytest.fixture(scope="module")
def drawn() -> SyntheticData:
    return simulate(
        3000,
        (RNA, ATAC, REAL),
        n_latent=3,
        n_batches=3,
        batch_effect=0.5,
        missing=(0.1, 0.4, 0.2),
        seed=5,
    )


def slopes(design: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Least-squares coefficients without the intercept, ``(F, K)``."""
    with_intercept = np.column_stack([np.ones(len(design)), design])
    return np.linalg.lstsq(with_intercept, response, rcond=None)[0][1:].T


def linear_part(data: SyntheticData, truth: ModalityTruth) -> np.ndarray:
    return truth.intercept + truth.batch_shift[data.batch] + data.z @ truth.loadings.T


def test_real_means_are_the_linear_part(drawn: SyntheticData) -> None:
    truth = drawn.truth("real")
    np.testing.assert_allclose(truth.mean, linear_part(drawn, truth), atol=1e-12)


def test_binary_means_have_the_linear_part_as_logits(drawn: SyntheticData) -> None:
    truth = drawn.truth("atac")
    logits = np.log(truth.mean) - np.log1p(-truth.mean)
    np.testing.assert_allclose(logits, linear_part(drawn, truth), atol=1e-9)


def test_count_means_are_the_library_times_a_softmax_of_the_linear_part(drawn: SyntheticData) -> None:
    truth = drawn.truth("rna")
    np.testing.assert_allclose(truth.mean.sum(1), truth.library, rtol=1e-12)
    difference = np.log(truth.mean[:, 1:] / truth.mean[:, :1])
    linear = linear_part(drawn, truth)
    np.testing.assert_allclose(difference, linear[:, 1:] - linear[:, :1], atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_regression_of_log_counts_on_z_recovers_the_loadings(seed: int) -> None:
    deep = replace(RNA, depth=1e6, inverse_dispersion=np.inf)
    data = simulate(1000, (deep,), n_latent=3, seed=seed)
    truth = data.truth("rna")
    log_counts = np.log(truth.values + 0.5)
    centred = log_counts - log_counts.mean(1, keepdims=True)  # takes library and normaliser out
    expected = truth.loadings - truth.loadings.mean(0)
    assert np.abs(slopes(data.z, centred) - expected).max() < 0.05


def test_counts_scatter_as_a_negative_binomial(drawn: SyntheticData) -> None:
    truth = drawn.truth("rna")
    variance = truth.mean + truth.mean**2 / RNA.inverse_dispersion
    pearson = (truth.values - truth.mean) / np.sqrt(variance)
    assert abs(pearson.mean()) < 0.01
    assert abs(pearson.var() - 1.0) < 0.05


def test_infinite_inverse_dispersion_is_poisson() -> None:
    data = simulate(2000, (replace(RNA, inverse_dispersion=np.inf),), n_latent=2, seed=2)
    truth = data.truth("rna")
    assert abs(((truth.values - truth.mean) ** 2 / truth.mean).mean() - 1.0) < 0.03


def test_ones_are_as_frequent_as_their_probability(drawn: SyntheticData) -> None:
    truth = drawn.truth("atac")
    edges = np.quantile(truth.mean, np.linspace(0.1, 0.9, 9))
    group = np.digitize(truth.mean, edges)
    for i in range(10):
        expected, seen = truth.mean[group == i].mean(), truth.values[group == i].mean()
        n = (group == i).sum()
        assert abs(seen - expected) < 4.0 * np.sqrt(expected * (1.0 - expected) / n)


def test_real_values_have_the_given_noise(drawn: SyntheticData) -> None:
    truth = drawn.truth("real")
    assert abs((truth.values - truth.mean).std() - REAL.noise_sd) < 0.01


def test_batch_shift_is_seen_in_the_data(drawn: SyntheticData) -> None:
    truth = drawn.truth("real")
    residual = truth.values - drawn.z @ truth.loadings.T - truth.intercept
    for code in range(3):
        seen = residual[drawn.batch == code].mean(0)
        assert np.abs(seen - truth.batch_shift[code]).max() < 0.08
    np.testing.assert_allclose(truth.batch_shift.sum(0), 0.0, atol=1e-12)
    assert 0.3 < truth.batch_shift.std() < 0.6


def test_no_batch_effect_is_exactly_none() -> None:
    data = simulate(50, (RNA,), n_latent=2, n_batches=4, seed=0)
    assert not data.truth("rna").batch_shift.any()


def test_missing_shares_are_exact_and_every_cell_has_something(drawn: SyntheticData) -> None:
    present = np.stack([truth.present for truth in drawn.modalities], axis=1)
    np.testing.assert_array_equal((~present).sum(0), [300, 1200, 600])
    assert present.any(1).all()
    lacking_two = ((~present).sum(1) == 2).mean()
    assert lacking_two > 0.05  # modalities go missing independently, not in turn


@pytest.mark.parametrize("missing", [(0.5, 0.5), (0.9, 0.1), (0.0, 0.7)])
def test_missing_shares_are_exact_up_to_the_limit(missing: tuple[float, float]) -> None:
    data = simulate(200, (RNA, ATAC), n_latent=2, missing=missing, seed=3)
    present = np.stack([truth.present for truth in data.modalities], axis=1)
    np.testing.assert_array_equal((~present).sum(0), [round(200 * share) for share in missing])
    assert present.any(1).all()


def test_the_mudata_holds_the_present_cells_in_order(drawn: SyntheticData) -> None:
    mdata = drawn.mdata
    assert mdata.n_obs == 3000
    for truth in drawn.modalities:
        modality = mdata[truth.name]
        np.testing.assert_array_equal(modality.obs_names, mdata.obs_names[truth.present])
        values = modality.X.toarray() if sp.issparse(modality.X) else modality.X
        np.testing.assert_array_equal(values, truth.values[truth.present].astype(np.float32))
    np.testing.assert_array_equal(mdata.obs["cell_type"], [f"type_{code}" for code in drawn.cell_type])
    np.testing.assert_array_equal(mdata.obs["batch"], [f"batch_{code}" for code in drawn.batch])


def test_kinds_of_matrices(drawn: SyntheticData) -> None:
    for name in ("rna", "atac"):
        assert isinstance(drawn.mdata[name].X, sp.csr_matrix)
        assert drawn.mdata[name].X.dtype == np.float32
        assert (drawn.mdata[name].X.data > 0).all()
    assert isinstance(drawn.mdata["real"].X, np.ndarray)


def test_types_explain_their_share_of_z() -> None:
    data = simulate(20_000, (replace(REAL, n_features=1),), n_latent=2, n_types=400, type_share=0.7, seed=1)
    means = np.stack([np.bincount(data.cell_type, data.z[:, k]) for k in range(2)], 1)
    means = means / np.bincount(data.cell_type)[:, None]
    within = (data.z - means[data.cell_type]).var(0)
    assert np.abs(within - 0.3).max() < 0.02
    assert np.abs(data.z.var(0) - 1.0).max() < 0.15


def test_one_type_is_a_standard_normal() -> None:
    data = simulate(20_000, (replace(REAL, n_features=1),), n_latent=2, n_types=1, seed=1)
    assert np.abs(np.cov(data.z.T) - np.eye(2)).max() < 0.05
    assert np.abs(data.z.mean(0)).max() < 0.03


def test_curvature_bends_the_decoder() -> None:
    data = simulate(500, (REAL,), n_latent=3, curvature=1.0, seed=1)
    truth = data.truth("real")
    bent = decoder_input(data.z, data.mixing, 1.0)
    np.testing.assert_allclose(truth.mean, truth.intercept + bent @ truth.loadings.T, atol=1e-12)
    straight = slopes(data.z, truth.mean) @ data.z.T
    unexplained = (truth.mean - straight.T).var(0) / truth.mean.var(0)
    assert unexplained.max() > 0.02
    np.testing.assert_allclose(data.mixing @ data.mixing.T, np.eye(3), atol=1e-12)
    np.testing.assert_array_equal(decoder_input(data.z, data.mixing, 0.0), data.z)


def test_the_seed_decides_everything() -> None:
    def draw(seed: int) -> SyntheticData:
        return simulate(60, (RNA, REAL), n_latent=2, n_batches=2, missing=0.2, seed=seed)

    first, again, other = draw(4), draw(4), draw(5)
    np.testing.assert_array_equal(first.z, again.z)
    for one, two in zip(first.modalities, again.modalities, strict=True):
        np.testing.assert_array_equal(one.values, two.values)
        np.testing.assert_array_equal(one.present, two.present)
    assert not np.array_equal(first.z, other.z)


def test_global_random_state_is_unchanged() -> None:
    numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    simulate(50, (RNA, ATAC, REAL), n_latent=2, missing=0.2, seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


def test_unknown_modality_is_named(drawn: SyntheticData) -> None:
    with pytest.raises(InputError, match="Did you mean 'rna'"):
        drawn.truth("rma")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_cells": 0}, "n_cells is 0"),
        ({"n_latent": 0}, "n_latent is 0"),
        ({"n_types": 0}, "n_types is 0"),
        ({"n_batches": -1}, "n_batches is -1"),
        ({"type_share": 1.5}, "type_share is 1.5"),
        ({"batch_effect": -1.0}, "batch_effect is -1.0"),
        ({"curvature": float("nan")}, "curvature is nan"),
        ({"missing": 1.0}, "missing is 1.0 for 'rna'"),
        ({"missing": (0.1,)}, "1 shares for 2 modalities"),
        ({"missing": (0.6, 0.5)}, "no modality at all"),
        ({"modalities": ()}, "modalities is empty"),
        ({"modalities": (RNA, RNA)}, "must differ"),
    ],
)
def test_bad_arguments_are_refused(changed: dict[str, object], message: str) -> None:
    good = {"n_cells": 100, "modalities": (RNA, ATAC), "n_latent": 2}
    with pytest.raises(InputError, match=message):
        simulate(**(good | changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "count"}, "Did you mean 'counts'"),
        ({"n_features": 0}, "n_features=0"),
        ({"mean_open": 1.0}, "mean_open=1.0"),
        ({"depth": 0.0}, "depth=0.0"),
        ({"inverse_dispersion": -1.0}, "inverse_dispersion=-1.0"),
        ({"noise_sd": -0.1}, "noise_sd=-0.1"),
    ],
)
def test_bad_modalities_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate(10, (replace(RNA, **changed),), n_latent=2)
