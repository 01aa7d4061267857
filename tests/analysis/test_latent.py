"""Latent tables hold the fused posterior of each cell, whatever cells stand beside it."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from handmade_models import mixed_data, module_for
from multiomics_vae.analysis.latent import latent_samples, latent_table
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.fusion import FUSION_RULES

EVERYONE = np.arange(30)
FUSIONS = pytest.mark.parametrize("fusion", sorted(FUSION_RULES))


@FUSIONS
@pytest.mark.parametrize("given", [None, (0,), (0, 2)])
def test_the_table_is_the_fused_posterior(fusion: str, given: tuple[int, ...] | None) -> None:
    data = mixed_data(30)
    module = module_for(data, fusion=fusion)
    table = latent_table(module, data, EVERYONE, 30, given)
    minibatch = make_minibatch(data, EVERYONE)
    available = minibatch.present.clone()
    if given is not None:
        available[:, [m for m in range(3) if m not in given]] = False
    with torch.no_grad():
        fused = module.fuse(module.encode(minibatch), available)
    np.testing.assert_allclose(table.mean, fused.posterior.mean, atol=1e-6)
    np.testing.assert_allclose(table.variance, fused.posterior.variance, rtol=1e-5)
    np.testing.assert_allclose(table.weights, fused.weights.T, atol=1e-6)
    np.testing.assert_allclose(table.weights.sum(1), 1.0, rtol=1e-5)
    entropy = 0.5 * np.log(2.0 * np.pi * np.e * table.variance).sum(1)
    np.testing.assert_allclose(table.entropy, entropy, rtol=1e-4, atol=1e-4)


@FUSIONS
def test_a_cell_has_the_same_posterior_in_any_company(fusion: str) -> None:
    data = mixed_data(30)
    module = module_for(data, fusion=fusion)
    expected = latent_table(module, data, EVERYONE, 30)
    order = np.random.default_rng(0).permutation(30)[:17]
    for batch_size in (1, 4, 64):
        found = latent_table(module, data, order, batch_size)
        for field in fields(found):
            wanted = getattr(expected, field.name)[order]
            np.testing.assert_allclose(getattr(found, field.name), wanted, rtol=1e-4, atol=1e-5)


@FUSIONS
def test_a_cell_without_what_is_given_has_the_prior(fusion: str) -> None:
    data = mixed_data(30)
    table = latent_table(module_for(data, fusion=fusion), data, EVERYONE, 30, given=(2,))
    lacking = ~data.present[:, 2]
    assert lacking.any()
    np.testing.assert_allclose(table.mean[lacking], 0.0, atol=1e-6)
    np.testing.assert_allclose(table.variance[lacking], 1.0, rtol=1e-6)
    assert np.abs(table.mean[~lacking]).max() > 1e-3


@FUSIONS
def test_given_modalities_are_all_that_is_read(fusion: str) -> None:
    """Other values of the second modality change nothing of what the first and third say."""
    data, other = mixed_data(30, seed=0), mixed_data(30, seed=0)
    other.modalities[1].values.data[:] = 0.0
    module = module_for(data, fusion=fusion)
    first, second = (latent_table(module, d, EVERYONE, 30, given=(0, 2)) for d in (data, other))
    np.testing.assert_array_equal(first.mean, second.mean)
    np.testing.assert_array_equal(first.weights, second.weights)


@FUSIONS
def test_samples_have_the_moments_of_the_table(fusion: str) -> None:
    data = mixed_data(20)
    module = module_for(data, fusion=fusion)
    cells = np.arange(20)
    table = latent_table(module, data, cells, 20)
    draws = latent_samples(module, data, cells, 20, n_samples=6000)
    error = np.sqrt(table.variance / 6000)
    assert (np.abs(draws.mean(0) - table.mean) / error).max() < 4.5
    np.testing.assert_allclose(draws.var(0), table.variance, rtol=0.15)


def test_a_cell_has_the_same_samples_in_any_company() -> None:
    data = mixed_data(30)
    module = module_for(data, fusion="mixture")
    expected = latent_samples(module, data, EVERYONE, 30, n_samples=5)
    order = np.random.default_rng(0).permutation(30)[:17]
    found = latent_samples(module, data, order, 4, n_samples=5)
    np.testing.assert_allclose(found, expected[:, order], rtol=1e-4, atol=1e-5)
    more = latent_samples(module, data, EVERYONE, 30, n_samples=9)
    np.testing.assert_allclose(more[:5], expected, rtol=1e-4, atol=1e-5)


def test_another_seed_gives_other_samples() -> None:
    data = mixed_data(10)
    module = module_for(data)
    first, second = (latent_samples(module, data, np.arange(10), 10, 3, seed=seed) for seed in (0, 1))
    assert np.abs(first - second).min() > 0.0


def test_no_cells_have_no_rows() -> None:
    data = mixed_data(10)
    module, nobody = module_for(data), np.empty(0, dtype=np.int64)
    assert latent_table(module, data, nobody, 4).mean.shape == (0, 3)
    assert latent_samples(module, data, nobody, 4, n_samples=2).shape == (2, 0, 3)
