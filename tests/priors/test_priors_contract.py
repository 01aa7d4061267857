"""What every prior owes, whatever its form."""

from __future__ import annotations

import pytest
import torch

from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.errors import InputError
from multiomics_vae.priors import PRIORS

pytestmark = pytest.mark.parametrize("name", list(PRIORS))
MODALITIES, HIDDEN, COMPONENTS = 2, 4, 7


def infer(features):
    """A stand-in for a model: a mixture of two Gaussians for each imagined cell, (2, C, K)."""
    first, second = features[0], features[1]
    mean = torch.stack([first[:, :1] - second[:, :1], first[:, 1:2]])  # (2, C, 1)
    log_variance = torch.stack([second[:, 1:2], first[:, 2:3]]).tanh()  # (2, C, 1)
    widths = torch.arange(1, infer.n_latent + 1, dtype=features.dtype, device=features.device)
    log_weights = torch.stack([first[:, 3], second[:, 3]]).log_softmax(0)  # (2, C)
    return GaussianMixture(Gaussian(mean * widths / 2, log_variance + 0 * widths), log_weights)


def random_prior(name, n_latent, seed=0, dtype=torch.float64):
    infer.n_latent = n_latent
    with torch.random.fork_rng():
        prior = PRIORS[name](n_latent, MODALITIES, HIDDEN, COMPONENTS).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return prior


def test_shapes_for_one_cell(name):
    mixture = random_prior(name, 3)(infer)
    n_components = mixture.n_components
    assert mixture.components.mean.shape == mixture.components.log_variance.shape == (n_components, 1, 3)
    assert mixture.log_weights.shape == (n_components, 1)
    torch.testing.assert_close(mixture.log_weights.exp().sum(), torch.ones((), dtype=torch.float64))


def test_log_density_broadcasts_over_cells_and_samples(name):
    mixture = random_prior(name, 3)(infer)
    z = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = mixture.log_prob(z)
    assert together.shape == (5, 4)
    assert mixture.log_prob(z[0]).shape == (4,)
    apart = torch.stack([mixture.log_prob(row.unsqueeze(0))[0] for row in z.reshape(-1, 3)]).reshape(5, 4)
    torch.testing.assert_close(together, apart)


def test_density_integrates_to_one_and_has_the_stated_moments(name):
    mixture = random_prior(name, 1)(infer)
    grid = torch.linspace(-30.0, 30.0, 30_001, dtype=torch.float64)
    density = mixture.log_prob(grid[:, None]).exp()
    mean = torch.trapezoid(density * grid, grid)
    variance = torch.trapezoid(density * (grid - mean) ** 2, grid)
    torch.testing.assert_close(torch.trapezoid(density, grid), torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(mean, mixture.mean[0, 0])
    torch.testing.assert_close(variance, mixture.variance[0, 0])


def test_samples_have_the_moments_of_the_density(name):
    mixture = random_prior(name, 2)(infer)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200_000, 1, 2, generator=generator, dtype=torch.float64)
    uniform = torch.rand(200_000, 1, generator=generator, dtype=torch.float64)
    draws = mixture.sample(noise, uniform)
    error = 5 * (mixture.variance / 200_000).sqrt()  # five standard errors
    assert ((draws.mean(0) - mixture.mean).abs() < error).all()
    torch.testing.assert_close(draws.var(0), mixture.variance, rtol=0.03, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite_in_the_dtype_of_the_module(name, dtype):
    prior = random_prior(name, 3, dtype=dtype)
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    log_density = prior(infer).log_prob(z)
    assert log_density.dtype == dtype
    log_density.sum().backward()
    assert z.grad.isfinite().all()
    for parameter in prior.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


def test_gradients_against_finite_differences(name):
    prior = random_prior(name, 2)
    keys = [key for key, _ in prior.named_parameters()]
    z = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)

    class LogDensity(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.prior = prior

        def forward(self, z):
            return self.prior(infer).log_prob(z)

    module = LogDensity()

    def log_density(z, *values):
        named = {f"prior.{key}": value for key, value in zip(keys, values, strict=True)}
        return torch.func.functional_call(module, named, (z,))

    values = [parameter.detach().clone().requires_grad_() for parameter in prior.parameters()]
    assert torch.autograd.gradcheck(log_density, (z, *values), fast_mode=True)


def test_state_dict_round_trip(name):
    first, second = random_prior(name, 3, seed=1), random_prior(name, 3, seed=2)
    second.load_state_dict(first.state_dict())
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(first(infer).log_prob(z), second(infer).log_prob(z))
    assert set(first.state_dict()) == {key for key, _ in first.named_parameters()}


def test_construction_is_reproducible_and_asking_draws_nothing(name):
    built = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            built.append(PRIORS[name](3, MODALITIES, HIDDEN, COMPONENTS))
    for first, second in zip(built[0].parameters(), built[1].parameters(), strict=True):
        assert torch.equal(first, second)
    state = torch.get_rng_state()
    infer.n_latent = 3
    built[0](infer)
    assert torch.equal(state, torch.get_rng_state())


def test_no_components_are_refused_where_components_are_wanted(name):
    if not PRIORS[name].has_components:
        infer.n_latent = 3
        prior = PRIORS[name](3, MODALITIES, HIDDEN, 0)
        assert prior.n_components == prior(infer).n_components == 1
        return
    with pytest.raises(InputError, match=rf"{name}.*at least 1, not 0.*n_components=50"):
        PRIORS[name](3, MODALITIES, HIDDEN, 0)


def test_a_prior_computes_on_its_own_device(name):
    mixture = random_prior(name, 3).to("meta")(infer)
    assert {mixture.log_weights.device.type, mixture.mean.device.type, mixture.variance.device.type} == {
        "meta"
    }
