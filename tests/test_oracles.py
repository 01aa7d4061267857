"""The linear-Gaussian model, where everything is known exactly: likelihood, posteriors, bounds.

With one modality, one σ² and a linear decoder the model is probabilistic PCA (Tipping & Bishop 1999):
x ~ N(b, W Wᵀ + σ² I), and z | x ~ N(Σ Wᵀ (x − b) / σ², Σ) with Σ = (I + Wᵀ W / σ²)⁻¹.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from handmade_models import (
    data_of,
    linear_gaussian,
    linear_module,
    set_linear_expert,
    set_linear_gaussian,
    table,
)
from multiomics_vae.analysis.bounds import evidence_bounds
from multiomics_vae.analysis.latent import latent_table
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import Objective, ObjectiveConfig, SubsetObjective

SAMPLES = (1, 10, 100, 1000)


def draw(n_cells: int, loadings: np.ndarray, noise_sd: float, rng: np.random.Generator) -> np.ndarray:
    z = rng.normal(size=(n_cells, loadings.shape[1]))
    return z @ loadings.T + 1.5 + noise_sd * rng.normal(size=(n_cells, len(loadings)))


def descend(
    module: MultimodalModule,
    data: MultimodalData,
    config: ObjectiveConfig,
    n_steps: int,
    rate: float,
    warmup: int = 1,
) -> Objective:
    """Adam over all cells at once, fresh noise at every step; β rises over ``warmup`` steps."""
    objective = Objective(config, (1.0,) * module.n_modalities, data.n_cells)
    minibatch = make_minibatch(data, np.arange(data.n_cells))
    generator = torch.Generator().manual_seed(0)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for step in range(n_steps):
        optimizer.zero_grad()
        objective(module, minibatch, min(1.0, (step + 1) / warmup), generator).loss.backward()
        optimizer.step()
        schedule.step()
    return objective


def polish(module: MultimodalModule, data: MultimodalData, objective: Objective, n_draws: int) -> None:
    """L-BFGS with the same noise at every evaluation, several draws a cell."""
    minibatch = make_minibatch(data, np.tile(np.arange(data.n_cells), n_draws))
    optimizer = torch.optim.LBFGS(
        module.parameters(), max_iter=100, line_search_fn="strong_wolfe", tolerance_change=1e-9
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = objective(module, minibatch, 1.0, torch.Generator().manual_seed(1)).loss
        loss.backward()
        return loss

    optimizer.step(closure)


def exact_log_likelihood(
    x: np.ndarray, loadings: np.ndarray, intercept: np.ndarray, variance: float
) -> np.ndarray:
    covariance = loadings @ loadings.T + variance * np.eye(len(loadings))
    return np.asarray(multivariate_normal(intercept, covariance).logpdf(x))


# --- probabilistic PCA -----------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainedPCA:
    x: np.ndarray
    data: MultimodalData
    module: MultimodalModule


@pytest.fixture(scope="module")
def pca() -> TrainedPCA:
    rng = np.random.default_rng(0)
    x = draw(300, rng.normal(size=(6, 2)), 0.6, rng)
    data = data_of([table(x)], ["gaussian"])
    module = linear_module(data, n_latent=2)
    objective = descend(module, data, ObjectiveConfig(), n_steps=200, rate=0.05, warmup=150)
    polish(module, data, objective, n_draws=80)
    return TrainedPCA(x, data, module)


def largest_log_likelihood(x: np.ndarray, n_latent: int) -> tuple[float, float]:
    """Log likelihood a cell and σ² at the solution of Tipping & Bishop, from eigenvalues alone."""
    n_features = x.shape[1]
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    variance = eigenvalues[n_latent:].mean()
    log_det = np.log(eigenvalues[:n_latent]).sum() + (n_features - n_latent) * np.log(variance)
    return -0.5 * (n_features * np.log(2.0 * np.pi) + log_det + n_features), variance


def test_pca_elbo_reaches_the_largest_log_likelihood(pca: TrainedPCA) -> None:
    bounds = evidence_bounds(pca.module, pca.data, np.arange(300), 300, n_samples=300)
    best, variance = largest_log_likelihood(pca.x, 2)
    assert abs(bounds.elbo.mean() - best) < 0.01
    assert abs(bounds.importance_weighted.mean() - best) < 0.005
    assert linear_gaussian(pca.module, 0)[2] == pytest.approx(variance, rel=0.01)


def test_pca_spans_the_leading_eigenvectors(pca: TrainedPCA) -> None:
    loadings, intercept, _ = linear_gaussian(pca.module, 0)
    leading = np.linalg.eigh(np.cov(pca.x.T, bias=True))[1][:, -2:]
    cosines = np.linalg.svd(np.linalg.qr(loadings)[0].T @ leading, compute_uv=False)
    assert cosines.min() > 0.999
    np.testing.assert_allclose(intercept, pca.x.mean(0), atol=0.03)


def test_pca_posterior_is_the_exact_one(pca: TrainedPCA) -> None:
    loadings, intercept, variance = linear_gaussian(pca.module, 0)
    covariance = np.linalg.inv(np.eye(2) + loadings.T @ loadings / variance)
    mean = (pca.x - intercept) @ loadings @ covariance / variance
    inferred = latent_table(pca.module, pca.data, np.arange(300), 128)
    deviations = np.sqrt(np.diag(covariance))
    assert (np.abs(inferred.mean - mean) / deviations).max() < 0.1
    ratio = inferred.variance / np.diag(covariance)
    np.testing.assert_allclose(ratio.mean(0), 1.0, atol=0.03)
    np.testing.assert_allclose(ratio, 1.0, atol=0.1)  # what is left falls as 1/√draws: noise of the training
    # A diagonal posterior costs nothing: training turns the axes until the exact one is diagonal.
    assert abs(covariance[0, 1]) < 0.02 * deviations.prod()


# --- bounds ----------------------------------------------------------------------------------------


def known_module(n_cells: int = 150) -> tuple[MultimodalModule, MultimodalData, np.ndarray]:
    """A model with orthogonal loadings, cells drawn from it, and their exact log likelihood."""
    rng = np.random.default_rng(3)
    directions = np.linalg.qr(rng.normal(size=(6, 2)))[0]
    loadings, intercept, variance = directions * np.array([1.5, 0.8]), np.full(6, 1.5), 0.5
    x = draw(n_cells, loadings, np.sqrt(variance), rng)
    data = data_of([table(x)], ["gaussian"])
    module = linear_module(data, n_latent=2)
    set_linear_gaussian(module, 0, loadings, intercept, variance)
    precision = (loadings**2).sum(0) / variance
    weight = loadings.T / (loadings**2).sum(0)[:, None]
    set_linear_expert(module, 0, weight, -weight @ intercept, precision)
    return module, data, exact_log_likelihood(x, loadings, intercept, variance)


def test_exact_posterior_makes_every_importance_weight_the_likelihood() -> None:
    module, data, exact = known_module()
    bounds = evidence_bounds(module, data, np.arange(data.n_cells), 64, n_samples=1)
    np.testing.assert_allclose(bounds.importance_weighted, exact, atol=2e-4)


def test_elbo_of_the_exact_posterior_is_the_likelihood_in_expectation() -> None:
    module, data, exact = known_module()
    bounds = evidence_bounds(module, data, np.arange(data.n_cells), 150, n_samples=1000)
    assert bounds.elbo.mean() == pytest.approx(exact.mean(), abs=0.02)


@pytest.mark.parametrize(("shift", "widening"), [(0.4, 1.0), (0.0, 3.0), (0.0, 0.6), (0.3, 2.0)])
def test_bounds_of_a_wrong_encoder_rise_to_the_likelihood_from_below(shift: float, widening: float) -> None:
    module, data, exact = known_module()
    head = module.parts[0].encoder.head
    with torch.no_grad():
        head.mean.bias += shift
        head.log_variance.bias += np.log(widening)
    found = [evidence_bounds(module, data, np.arange(data.n_cells), 150, n) for n in SAMPLES]
    elbo = found[-1].elbo.mean()
    weighted = [bounds.importance_weighted.mean() for bounds in found]
    assert weighted[0] == pytest.approx(elbo, abs=0.25)  # one draw: the same bound, with its noise
    assert elbo < exact.mean() - 0.05  # the encoder is clearly wrong
    assert elbo + 0.03 < weighted[1] < weighted[2] + 0.005 < weighted[3] + 0.01
    assert weighted[-1] == pytest.approx(exact.mean(), abs=0.015)
    assert elbo < weighted[1] < exact.mean() + 0.01


def test_bound_of_a_subset_still_bounds_the_likelihood_of_everything() -> None:
    rng = np.random.default_rng(5)
    loadings = [np.full((4, 1), 0.5), np.full((4, 1), -0.3)]
    z = rng.normal(size=(100, 1))
    parts = [z @ w.T + rng.normal(size=(100, 4)) for w in loadings]
    data = data_of([table(part) for part in parts], ["gaussian", "gaussian"])
    module = linear_module(data, n_latent=1)
    for m, w in enumerate(loadings):
        set_linear_gaussian(module, m, w, np.zeros(4), 1.0)
        set_linear_expert(module, m, w.T / (w**2).sum(), np.zeros(1), (w**2).sum(keepdims=True)[0])
    exact = exact_log_likelihood(np.concatenate(parts, axis=1), np.concatenate(loadings), np.zeros(8), 1.0)
    bounds = {
        given: evidence_bounds(module, data, np.arange(100), 100, 500, given)
        for given in ((0, 1), (0,), (1,))
    }
    np.testing.assert_allclose(bounds[0, 1].importance_weighted, exact, atol=2e-4)
    for given in ((0,), (1,)):
        assert bounds[given].elbo.mean() < exact.mean() - 0.05
        assert bounds[given].importance_weighted.mean() == pytest.approx(exact.mean(), abs=0.01)


# --- what a subset's posterior learns ----------------------------------------------------------------


@dataclass(frozen=True)
class SubsetPosterior:
    """Of z given the first modality: variance over the exact one, and coverage of 90 % intervals."""

    variance_ratio: float
    coverage: float


def true_model_of_two(
    n_cells: int, fusion: str = "product"
) -> tuple[MultimodalModule, MultimodalData, np.ndarray, list[np.ndarray]]:
    """Two modalities, the second four times as informative: true decoders, cells, their z and loadings."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n_cells, 1))
    directions = [np.linalg.qr(rng.normal(size=(5, 1)))[0] for _ in range(2)]
    loadings = [directions[0], 2.0 * directions[1]]
    data = data_of(
        [table(z @ w.T + rng.normal(size=(n_cells, 5))) for w in loadings], ["gaussian", "gaussian"]
    )
    module = linear_module(data, n_latent=1, fusion=fusion)
    for m, w in enumerate(loadings):
        set_linear_gaussian(module, m, w, np.zeros(5), 1.0)
    return module, data, z, loadings


def posterior_of_first(fusion: str, kind: SubsetObjective) -> SubsetPosterior:
    """Train the encoders of a known model of two modalities, the second four times as informative.

    p(z | x_1) has precision 1 + 1, p(z | x_1, x_2) has 1 + 1 + 4: a posterior of x_1 as sharp as the
    joint one has a third of the variance it should have.
    """
    n_cells = 400
    module, data, z, _ = true_model_of_two(n_cells, fusion)
    for part in module.parts:
        part.decoder.requires_grad_(False)
        part.likelihood.requires_grad_(False)
    descend(module, data, ObjectiveConfig(subset_objective=kind), n_steps=200, rate=0.03)
    found = latent_table(module, data, np.arange(n_cells), n_cells, given=(0,))
    covered = np.abs(z - found.mean) < 1.645 * np.sqrt(found.variance)
    return SubsetPosterior(float(found.variance.mean() / 0.5), float(covered.mean()))


@pytest.mark.parametrize("fusion", ["product", "gated"])
def test_within_gives_a_subset_its_honest_width(fusion: str) -> None:
    found = posterior_of_first(fusion, "within")
    assert 0.85 < found.variance_ratio < 1.15
    assert 0.85 < found.coverage < 0.95


@pytest.mark.parametrize("fusion", ["product", "gated"])
def test_cross_makes_a_subset_too_sure(fusion: str) -> None:
    # Measured: ratio .49 and coverage .77 (product), .40 and .73 (gated), on the way to 1/3 and .66.
    found = posterior_of_first(fusion, "cross")
    assert 0.3 < found.variance_ratio < 0.65
    assert found.coverage < 0.82


@pytest.mark.parametrize("fusion", ["product", "gated"])
def test_both_predicts_the_others_and_stays_honest(fusion: str) -> None:
    """What a subset has not seen is read at its mean, so it does not make the subset surer."""
    found = posterior_of_first(fusion, "both")
    assert 0.85 < found.variance_ratio < 1.15
    assert 0.85 < found.coverage < 0.95


@pytest.mark.parametrize("kind", ["none", "within", "both", "cross"])
def test_the_true_model_is_where_training_rests_except_with_cross(kind: SubsetObjective) -> None:
    """No gradient by loadings and σ² where both, and the posteriors, are the exact ones.

    At its mean a subset says nothing of the spread of what it has not seen. If that taught σ², its
    gradient a cell, by log σ², would be −½ |w|² Var[z | x_1] / σ² = −1 here; at draws twice as much.
    """
    n_cells = 20_000
    module, data, _, loadings = true_model_of_two(n_cells)
    for m, w in enumerate(loadings):
        set_linear_expert(module, m, w.T / (w**2).sum(), np.zeros(1), (w**2).sum(keepdims=True)[0])
    objective = Objective(ObjectiveConfig(subset_objective=kind, subset_weight=1.0), (1.0, 1.0), n_cells)
    minibatch = make_minibatch(data, np.arange(n_cells))
    objective(module, minibatch, 1.0, torch.Generator().manual_seed(0)).loss.backward()
    second = module.parts[1]
    by_log_variance = float(second.likelihood.learned.table.grad)
    by_loadings = second.decoder.last_layers[0].weight.grad.numpy()
    if kind == "cross":
        assert by_log_variance < -1.5
        assert np.abs(by_loadings).max() > 0.3
    else:  # six standard errors of either are about .1
        assert abs(by_log_variance) < 0.1
        assert np.abs(by_loadings).max() < 0.1
