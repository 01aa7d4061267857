"""NUTS against exact posteriors, the comparison against closed forms, and what must not be touched."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from handmade_models import (
    data_of,
    linear_gaussian,
    linear_module,
    mixed_data,
    module_for,
    set_linear_expert,
    set_linear_gaussian,
    table,
)
from multiomics_vae.analysis.nuts import NutsPosterior, nuts_posterior
from multiomics_vae.analysis.posterior_reference import hold_against, posterior_reference
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.errors import InputError, NotFittedError
from multiomics_vae.module import MultimodalModule
from small_models import make_model, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")
SHORT: dict[str, Any] = {"n_warmup": 100, "n_samples": 300, "n_chains": 1}
SHORTEST: dict[str, Any] = {"n_warmup": 10, "n_samples": 8, "n_chains": 1}


def generator_of_numpy() -> bytes:
    return bytes(np.random.get_state()[1])  # noqa: NPY002  (the global one is meant)


def linear_cells(n_latent: int = 2) -> tuple[MultimodalModule, MultimodalData]:
    """Two modalities; the second has unmeasured entries, and is lacking in the second cell."""
    rng = np.random.default_rng(1)
    present = np.array([True, False, True, True])
    observed = rng.random((4, 5)) < 0.6
    parts = [rng.normal(size=(4, 5)) + 1.0, rng.normal(size=(4, 5)) * observed]
    data = data_of([table(parts[0]), table(parts[1], present, observed=observed)], ["gaussian"] * 2)
    module = linear_module(data, n_latent)
    for m, part in enumerate(parts):
        set_linear_gaussian(
            module, m, rng.normal(size=(part.shape[1], n_latent)), rng.normal(size=part.shape[1]), 0.8
        )
    return module, data


def exact_posterior(
    module: MultimodalModule, data: MultimodalData, cell: int, given: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of z | x_A in the linear-Gaussian model, measured entries only."""
    precision = np.eye(module.n_latent)
    weighted = np.zeros(module.n_latent)
    for m in given:
        part = data.modalities[m]
        row = part.row_of_cell[cell]
        if row < 0:
            continue
        seen = np.ones(part.values.shape[1], bool) if part.observed is None else part.observed[row]
        loadings, intercept, variance = linear_gaussian(module, m)
        x = np.asarray(part.values)[row].astype(float)
        precision += loadings[seen].T @ loadings[seen] / variance
        weighted += loadings[seen].T @ (x - intercept)[seen] / variance
    covariance = np.linalg.inv(precision)
    return covariance @ weighted, covariance


def agree(found: NutsPosterior, cell: int, mean: np.ndarray, covariance: np.ndarray) -> None:
    """Within four standard errors of as many independent draws as the chains are worth."""
    worth = np.minimum(found.ess[cell], len(found.draws)) / 2  # squares mix worse than values
    sd = np.sqrt(np.diag(covariance))
    assert (np.abs(found.mean[cell] - mean) < 4 * sd / np.sqrt(worth)).all()
    error = (found.covariance[cell] - covariance) / np.outer(sd, sd)
    assert (np.abs(error) < 4 * np.sqrt(2 / worth.min())).all()


def test_linear_gaussian_posterior_is_the_exact_one() -> None:
    module, data = linear_cells()
    found = nuts_posterior(module, data, np.array([2]), n_warmup=80, n_samples=150)
    assert found.draws.shape == (300, 1, 2)
    agree(found, 0, *exact_posterior(module, data, 2, (0, 1)))
    assert found.r_hat.max() < 1.05
    assert found.n_divergent.sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize("given", [None, (1,), (0,)])
def test_missing_modalities_and_entries_are_summed_out(given: tuple[int, ...] | None) -> None:
    module, data = linear_cells(3)
    found = nuts_posterior(module, data, np.array([1, 2]), given, **SHORT)
    for i, cell in enumerate((1, 2)):
        agree(found, i, *exact_posterior(module, data, cell, given or (0, 1)))
    assert found.r_hat.max() < 1.05


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["standard_normal", "gaussian_mixture", "vamp"])
def test_one_dimension_against_numerical_integration(prior: str) -> None:
    """Counts, 0/1 and real values, with cells and entries missing, under any prior."""
    data = mixed_data(12)
    module = module_for(data, prior=prior, n_latent=1)
    cells = np.array([0, 9])
    found = nuts_posterior(module, data, cells, **SHORT)
    grid = torch.linspace(-8.0, 8.0, 2001)
    for i, cell in enumerate(cells):
        minibatch = make_minibatch(data, np.full(len(grid), cell))
        z = grid.unsqueeze(1)
        log_joint = module.prior_mixture().log_prob(z).double()
        for m, batch in enumerate(minibatch.modalities):
            if len(batch.rows):
                found_m = module.log_likelihood(m, batch, z.unsqueeze(0), minibatch.covariates)
                log_joint = log_joint + found_m.per_cell[0].double()
        weights = log_joint.softmax(0).detach().numpy()
        mean = (weights * grid.numpy()).sum()
        variance = (weights * (grid.numpy() - mean) ** 2).sum()
        agree(found, i, np.array([mean]), np.array([[variance]]))


def test_a_cell_has_the_same_draws_in_any_company_and_another_seed_gives_others() -> None:
    data = mixed_data()
    module = module_for(data)
    alone = nuts_posterior(module, data, np.array([7]), **SHORTEST)
    beside = nuts_posterior(module, data, np.array([3, 7]), **SHORTEST)
    # The starts come from one batch of inference, whose rounding may depend on its size.
    np.testing.assert_allclose(beside.draws[:, 1], alone.draws[:, 0], atol=1e-4)
    assert list(beside.cell_names) == ["cell3", "cell7"]
    assert (
        np.abs(nuts_posterior(module, data, np.array([7]), seed=1, **SHORTEST).draws - alone.draws).max()
        > 0.01
    )


def test_nothing_global_is_touched() -> None:
    data = mixed_data()
    module = module_for(data)
    pyro.clear_param_store()
    pyro.param("mine", torch.tensor(2.0))
    states = random.getstate(), generator_of_numpy(), torch.get_rng_state()
    try:
        nuts_posterior(module, data, np.array([0]), **SHORTEST)
        assert list(pyro.get_param_store().keys()) == ["mine"]
        assert random.getstate() == states[0]
        assert generator_of_numpy() == states[1]
        assert torch.equal(torch.get_rng_state(), states[2])
        assert all(parameter.grad is None for parameter in module.parameters())
        assert not torch.is_inference_mode_enabled()
    finally:
        pyro.clear_param_store()


def drawn_from(mean: np.ndarray, covariance: np.ndarray, n_draws: int = 400) -> NutsPosterior:
    """Independent draws of some cells, as a sampler would hand them over."""
    rng = np.random.default_rng(0)
    draws = np.stack(
        [rng.multivariate_normal(m, c, n_draws) for m, c in zip(mean, covariance, strict=True)], 1
    )
    n, k = mean.shape
    names = np.array([f"c{i}" for i in range(n)], dtype=object)
    return NutsPosterior(names, draws, np.ones((n, k)), np.full((n, k), float(n_draws)), np.zeros(n, int))


def test_the_comparison_is_in_closed_form() -> None:
    rng = np.random.default_rng(2)
    factors = rng.normal(size=(2, 3, 3))
    exact = drawn_from(rng.normal(size=(2, 3)), factors @ factors.transpose(0, 2, 1) + np.eye(3))
    q = Gaussian(torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), torch.full((2, 3), -0.7))
    found = hold_against(GaussianMixture.single(q), exact)
    for i in range(2):
        p = MultivariateNormal(torch.from_numpy(exact.mean[i]), torch.from_numpy(exact.covariance[i]))
        of_q = MultivariateNormal(q.mean[i].double(), torch.diag(q.variance[i].double()))
        assert found.kl[i] == pytest.approx(float(kl_divergence(p, of_q)), rel=1e-6)
        sd = np.sqrt(np.diag(exact.covariance[i]))
        np.testing.assert_allclose(
            found.mean_difference[i], (q.mean[i].numpy() - exact.mean[i]) / sd, rtol=1e-6
        )
        np.testing.assert_allclose(found.sd_ratio[i], np.exp(-0.35) / sd, rtol=1e-6)
    frame = found.to_frame()
    assert list(frame.index) == ["c0", "c1"]
    assert frame["mean_distance"].iloc[1] == pytest.approx(np.sqrt((found.mean_difference[1] ** 2).mean()))
    assert frame.notna().all(axis=None)


def test_noise_of_the_kl_is_what_the_exact_posterior_gets() -> None:
    n_cells, k = 300, 4
    exact = drawn_from(np.zeros((n_cells, k)), np.tile(np.eye(k), (n_cells, 1, 1)), n_draws=200)
    q = GaussianMixture.single(Gaussian(torch.zeros(n_cells, k), torch.zeros(n_cells, k)))
    found = hold_against(q, exact)
    assert found.kl.mean() == pytest.approx(found.kl_noise.mean(), rel=0.1)


def test_a_mixture_is_compared_by_its_moments_and_its_density() -> None:
    exact = drawn_from(np.zeros((1, 2)), np.eye(2)[None])
    same = Gaussian(torch.zeros(3, 1, 2), torch.zeros(3, 1, 2))
    mixture = GaussianMixture(same, torch.full((3, 1), -np.log(3.0)))
    single = hold_against(GaussianMixture.single(Gaussian(torch.zeros(1, 2), torch.zeros(1, 2))), exact)
    np.testing.assert_allclose(hold_against(mixture, exact).kl, single.kl, atol=1e-6)


@pytest.mark.slow
def test_an_exact_encoder_is_found_exact_and_a_wrong_one_wrong() -> None:
    rng = np.random.default_rng(0)
    loadings = np.linalg.qr(rng.normal(size=(6, 2)))[0] * 1.5  # orthogonal: the exact posterior is diagonal
    data = data_of([table(rng.normal(size=(2, 6)))], ["gaussian"])
    module = linear_module(data, 2)
    set_linear_gaussian(module, 0, loadings, np.zeros(6), 0.5)
    strength = np.full(2, 1.5**2 / 0.5)  # of the expert; the product adds the prior's 1
    set_linear_expert(module, 0, loadings.T / 1.5**2, np.zeros(2), strength)
    exact = posterior_reference(module, data, np.arange(2), **SHORT)
    assert (exact.kl < 3 * exact.kl_noise).all()
    np.testing.assert_allclose(exact.sd_ratio, 1.0, atol=0.15)
    assert exact.to_frame()["mean_distance"].max() < 0.15
    set_linear_expert(module, 0, loadings.T / 1.5**2, np.full(2, 0.5), 4 * strength)
    wrong = posterior_reference(module, data, np.arange(2), **SHORT)
    assert (wrong.kl > 10 * wrong.kl_noise).all()
    assert (wrong.sd_ratio < 0.7).all()
    assert (wrong.mean_difference > 0.4).all()


def test_bad_sizes_are_refused() -> None:
    module, data = linear_cells()
    with pytest.raises(InputError, match=r"4 cells.*max_cells=3.*max_cells=4"):
        nuts_posterior(module, data, np.arange(4), max_cells=3)
    with pytest.raises(InputError, match="chooses no cell"):
        nuts_posterior(module, data, np.arange(0))
    for name, value in (("n_samples", 3), ("n_warmup", 2.5), ("n_chains", 0), ("seed", -1)):
        with pytest.raises(InputError, match=rf"{name} must be a whole number.*{name}="):
            nuts_posterior(module, data, np.arange(1), **{name: value})
    wide = replace(
        data,
        modalities=data.modalities[:1],
        schema=replace(data.schema, modalities=data.schema.modalities[:1]),
    )
    with pytest.raises(InputError, match="too few for the covariance of 12"):
        posterior_reference(linear_module(wide, 12), wide, np.arange(1), n_samples=10, n_chains=1)


def test_the_models_method() -> None:
    model = make_model()
    with pytest.raises(NotFittedError, match=r"model\.train"):
        model.compare_with_nuts(indices=[0])
    train(model)
    found = model.compare_with_nuts(indices=["c5"], modalities=["rna"], **SHORTEST)
    assert list(found.to_frame().index) == ["c5"]
    assert np.isfinite(found.kl).all()
    with pytest.raises(InputError, match="NUTS for 40 cells"):
        model.compare_with_nuts(max_cells=20)
    with pytest.raises(InputError, match="'cell5'"):
        model.compare_with_nuts(indices=["cell5"])
    with pytest.raises(InputError, match="Did you mean 'atac'"):
        model.compare_with_nuts(indices=[0], modalities=["atc"])
