"""The Gaussian and the mixture of Gaussians against torch, scipy and Monte Carlo."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from multiomics_vae.distributions import Gaussian, GaussianMixture, kl_gaussian


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_mixture(n_components=4, n_cells=3, n_latent=2, absent=True):
    log_weights = draw(n_components, n_cells, seed=3)
    if absent:
        log_weights[1, 0] = -torch.inf
        log_weights[-1, 1] = -torch.inf
    components = Gaussian(
        2 * draw(n_components, n_cells, n_latent), draw(n_components, n_cells, n_latent, seed=1)
    )
    return GaussianMixture(components, log_weights.log_softmax(0))


def as_torch(mixture):
    components = mixture.components
    parts = Independent(
        Normal(components.mean.transpose(0, 1), components.variance.sqrt().transpose(0, 1)), 1
    )
    return MixtureSameFamily(Categorical(probs=mixture.log_weights.exp().T), parts)


def test_gaussian_log_prob_and_entropy_against_torch_and_scipy():
    gaussian = Gaussian(draw(5, 3), draw(5, 3, seed=1))
    z = draw(7, 5, 3, seed=2)
    reference = MultivariateNormal(gaussian.mean, torch.diag_embed(gaussian.variance))
    torch.testing.assert_close(gaussian.log_prob(z), reference.log_prob(z))
    torch.testing.assert_close(gaussian.entropy(), reference.entropy())
    one = scipy.stats.multivariate_normal(gaussian.mean[0].numpy(), np.diag(gaussian.variance[0].numpy()))
    np.testing.assert_allclose(gaussian.log_prob(z)[:, 0].numpy(), one.logpdf(z[:, 0].numpy()))
    torch.testing.assert_close(gaussian.precision * gaussian.variance, torch.ones(5, 3).double())


def test_gaussian_draws_follow_the_distribution():
    gaussian = Gaussian(
        torch.full((20_000, 1), 2.0).double(), torch.full((20_000, 1), math.log(9.0)).double()
    )
    draws = gaussian.at(draw(20_000, 1))
    assert scipy.stats.kstest(draws[:, 0].numpy(), scipy.stats.norm(2, 3).cdf).pvalue > 0.01


def test_reparameterised_gradients():
    mean, log_variance = draw(4, 2).requires_grad_(), draw(4, 2, seed=1).requires_grad_()

    def sample(mean, log_variance):
        return Gaussian(mean, log_variance).at(draw(4, 2, seed=2))

    assert torch.autograd.gradcheck(sample, (mean, log_variance))


def test_kl_against_torch():
    q, p = Gaussian(draw(6, 3), draw(6, 3, seed=1)), Gaussian(draw(6, 3, seed=2), draw(6, 3, seed=3))
    expected = kl_divergence(Normal(q.mean, q.variance.sqrt()), Normal(p.mean, p.variance.sqrt()))
    torch.testing.assert_close(kl_gaussian(q, p), expected)
    assert torch.equal(kl_gaussian(q, q), torch.zeros(6, 3).double())


def test_kl_against_monte_carlo():
    q, p = Gaussian(draw(1, 2), draw(1, 2, seed=1)), Gaussian(draw(1, 2, seed=2), draw(1, 2, seed=3))
    z = q.mean + q.variance.sqrt() * draw(400_000, 1, 2, seed=4)
    ratio = (q.log_prob(z) - p.log_prob(z))[:, 0]
    error = 5 * ratio.std() / math.sqrt(len(ratio))
    assert abs(ratio.mean() - kl_gaussian(q, p).sum()) < error


def test_kl_to_the_standard_normal_in_closed_form():
    q = Gaussian(draw(6, 3), draw(6, 3, seed=1))
    expected = -0.5 * (1 + q.log_variance - q.mean**2 - q.variance)
    standard = Gaussian(torch.zeros(1, 3).double(), torch.zeros(1, 3).double())
    torch.testing.assert_close(kl_gaussian(q, standard), expected)


def test_kl_gradients_against_finite_differences():
    leaves = [draw(3, 2, seed=seed).requires_grad_() for seed in range(4)]
    assert torch.autograd.gradcheck(lambda a, b, c, d: kl_gaussian(Gaussian(a, b), Gaussian(c, d)), leaves)


def test_mixture_log_prob_against_torch():
    mixture = random_mixture()
    z = 2 * draw(9, 3, 2, seed=5)
    torch.testing.assert_close(mixture.log_prob(z), as_torch(mixture).log_prob(z))
    assert mixture.log_prob(z[0]).shape == (3,)


def test_mixture_moments_against_torch_and_integration():
    mixture = random_mixture(n_latent=1)
    torch.testing.assert_close(mixture.mean, as_torch(mixture).mean)
    torch.testing.assert_close(mixture.variance, as_torch(mixture).variance)
    grid = torch.linspace(-30, 30, 20_001, dtype=torch.float64)
    density = mixture.log_prob(grid[:, None, None].expand(-1, 3, 1)).exp()
    torch.testing.assert_close(torch.trapezoid(density * grid[:, None], grid, dim=0), mixture.mean[:, 0])
    second = torch.trapezoid(density * (grid[:, None] - mixture.mean[:, 0]) ** 2, grid, dim=0)
    torch.testing.assert_close(second, mixture.variance[:, 0])


def test_mixture_of_one_shared_cell_broadcasts():
    shared = random_mixture(n_components=4, n_cells=1, absent=False)
    z = draw(5, 6, 2, seed=5)
    each = torch.stack([shared.log_prob(z[:, cell : cell + 1])[:, 0] for cell in range(6)], dim=1)
    torch.testing.assert_close(shared.log_prob(z), each)


def test_single_is_its_gaussian():
    gaussian = Gaussian(draw(5, 3), draw(5, 3, seed=1))
    mixture = GaussianMixture.single(gaussian)
    z = draw(4, 5, 3, seed=2)
    torch.testing.assert_close(mixture.log_prob(z), gaussian.log_prob(z))
    assert torch.equal(mixture.gaussian.mean, gaussian.mean)
    assert torch.equal(mixture.gaussian.log_variance, gaussian.log_variance)
    torch.testing.assert_close(mixture.entropy_bound(), gaussian.entropy())
    assert mixture.n_components == 1


def test_matched_gaussian_has_the_moments_and_at_least_the_entropy():
    mixture = random_mixture(n_latent=1)
    torch.testing.assert_close(mixture.gaussian.mean, mixture.mean)
    torch.testing.assert_close(mixture.gaussian.variance, mixture.variance)
    grid = torch.linspace(-30, 30, 20_001, dtype=torch.float64)
    log_density = mixture.log_prob(grid[:, None, None].expand(-1, 3, 1))
    entropy = -torch.trapezoid(log_density.exp() * log_density, grid, dim=0)
    assert (mixture.entropy_bound() > entropy).all()


def test_stratified_draws_give_unbiased_expectations():
    mixture = random_mixture()
    repeated = GaussianMixture(
        Gaussian(
            mixture.components.mean.repeat(1, 40_000, 1), mixture.components.log_variance.repeat(1, 40_000, 1)
        ),
        mixture.log_weights.repeat(1, 40_000),
    )
    draws = repeated.components.at(draw(*repeated.components.mean.shape))  # (C, B, K)
    weights = repeated.log_weights.exp().unsqueeze(-1)
    estimates = (weights * draws).sum(0).reshape(40_000, 3, 2)
    error = 5 * estimates.std(0) / 200
    assert ((estimates.mean(0) - mixture.mean).abs() < error).all()
    squares = (weights * draws.square()).sum(0).reshape(40_000, 3, 2)
    error = 5 * squares.std(0) / 200
    assert ((squares.mean(0) - mixture.mean**2 - mixture.variance).abs() < error).all()


def test_draws_follow_the_cumulative_distribution():
    mixture = random_mixture(n_latent=1)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 3, 1, generator=generator, dtype=torch.float64)
    uniform = torch.rand(20_000, 3, generator=generator, dtype=torch.float64)
    draws = mixture.sample(noise, uniform)
    reference = as_torch(mixture)
    for cell in range(3):

        def cdf(x, cell=cell):
            scale = mixture.components.variance[:, cell, 0].sqrt()
            parts = Normal(mixture.components.mean[:, cell, 0], scale).cdf(torch.as_tensor(x)[:, None])
            return (parts * mixture.log_weights[:, cell].exp()).sum(1).numpy()

        assert scipy.stats.kstest(draws[:, cell, 0].numpy(), cdf).pvalue > 0.01
    torch.testing.assert_close(draws.mean(0), reference.mean, atol=0.1, rtol=0)


@pytest.mark.parametrize("absent", [[0], [2], [0, 3], [2, 3]])
def test_a_component_of_weight_zero_is_never_drawn(absent):
    log_weights = torch.full((4, 1), 0.1).log()
    log_weights[absent] = -torch.inf
    means = torch.arange(4.0).reshape(4, 1, 1)
    mixture = GaussianMixture(Gaussian(means, torch.zeros(4, 1, 1)), log_weights.log_softmax(0))
    below_one = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0)).item()
    uniform = torch.tensor([0.0, 1e-9, 0.3, 0.5, 0.7, below_one]).unsqueeze(1)
    chosen = mixture.sample(torch.zeros(6, 1, 1), uniform).flatten().long().tolist()
    assert not set(chosen) & set(absent)


def test_a_rounded_sum_of_weights_does_not_draw_what_is_absent():
    log_weights = torch.cat([torch.zeros(500, 1).log_softmax(0) - 1e-5, torch.full((1, 1), -torch.inf)])
    means = torch.arange(501.0).reshape(501, 1, 1)
    mixture = GaussianMixture(Gaussian(means, torch.zeros(501, 1, 1)), log_weights)
    assert mixture.sample(torch.zeros(1, 1, 1), torch.tensor([[0.999995]])).item() < 500


def test_mixture_gradients_against_finite_differences():
    mixture = random_mixture()
    z = draw(2, 3, 2, seed=5)

    def functions(mean, log_variance, z):
        changed = GaussianMixture(Gaussian(mean, log_variance), mixture.log_weights)
        return changed.log_prob(z), changed.mean, changed.variance, changed.entropy_bound()

    leaves = [
        t.clone().requires_grad_() for t in (mixture.components.mean, mixture.components.log_variance, z)
    ]
    assert torch.autograd.gradcheck(functions, leaves)
