import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from multiomics_vae.likelihoods.count_kernels import (
    log_rising_factorial,
    negative_binomial_log_prob,
    start_log_dispersion,
    start_log_frequency,
    take_entries,
)
from multiomics_vae.likelihoods.feature_parameter import FeatureParameter


@pytest.mark.parametrize("base", [1e-6, 0.3, 9.99, 10.01, 300.0, 1e5])
def test_rising_factorial_is_a_product(base: float) -> None:
    count = torch.arange(0, 30, dtype=torch.float64)
    exact = [math.fsum(math.log(base + j) for j in range(int(k))) for k in count]
    log_base = torch.full_like(count, math.log(base))
    torch.testing.assert_close(
        log_rising_factorial(count, log_base), torch.tensor(exact, dtype=torch.float64), rtol=1e-9, atol=2e-8
    )
    single = log_rising_factorial(count.float(), log_base.float())
    torch.testing.assert_close(
        single.double(), torch.tensor(exact, dtype=torch.float64), rtol=3e-6, atol=1e-5
    )


@pytest.mark.parametrize("log_base", [-80.0, -5.0, 2.0, 2.5, 14.0, 40.0])
def test_rising_factorial_has_the_digamma_gradient(log_base: float) -> None:
    leaf = torch.tensor([log_base, log_base], requires_grad=True)
    log_rising_factorial(torch.tensor([0.0, 4.0]), leaf).sum().backward()
    exact = sum(1.0 / (1.0 + j * math.exp(-log_base)) for j in range(4))  # Σ a/(a + j)
    torch.testing.assert_close(leaf.grad, torch.tensor([0.0, exact]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("theta", [1e-3, 0.5, 9.0, 40.0, 1e5])
@pytest.mark.parametrize("mean", [1e-4, 0.7, 50.0, 2e4])
def test_negative_binomial_agrees_with_scipy(theta: float, mean: float) -> None:
    x = np.array([[0.0, 1, 2, 7, 60, 3000]])
    exact = torch.tensor(stats.nbinom(n=theta, p=theta / (theta + mean)).logpmf(x))
    log_mean = torch.full((1, 6), math.log(mean), dtype=torch.float64)
    log_theta = torch.full((1, 6), math.log(theta), dtype=torch.float64)
    ours = negative_binomial_log_prob(torch.tensor(x), log_mean, log_theta)
    torch.testing.assert_close(ours, exact, rtol=1e-6, atol=1e-6)
    single = negative_binomial_log_prob(torch.tensor(x).float(), log_mean.float(), log_theta.float())
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=2e-3)


def test_float32_nears_the_poisson_when_dispersion_vanishes() -> None:
    x = torch.tensor([[0.0, 3.0, 20.0, 45.0]])
    log_mean = torch.full((1, 4), math.log(20.0))
    for log_theta in (15.0, 80.0):
        ours = negative_binomial_log_prob(x, log_mean, torch.full((1, 4), log_theta))
        exact = torch.tensor(stats.poisson(20.0).logpmf(x.numpy()))
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-3)


def test_one_row_of_dispersions_equals_that_row_for_every_cell() -> None:
    x = torch.tensor([[0.0, 2.0, 5.0], [1.0, 0.0, 0.0]])
    log_mean = torch.tensor([[0.1, 1.0, 2.0], [-1.0, 0.0, 1.0]])
    row = torch.tensor([[0.0, 1.0, -1.0]])
    expected = negative_binomial_log_prob(x, log_mean, row.expand(2, -1))
    torch.testing.assert_close(negative_binomial_log_prob(x, log_mean, row), expected)
    assert take_entries(row, torch.tensor([1, 5])).tolist() == [1.0, -1.0]


def test_non_contiguous_counts_are_read_in_place() -> None:
    x = torch.tensor([[0.0, 2.0, 5.0], [1.0, 0.0, 0.0]])
    log_mean = torch.zeros(3, 2)
    zero = torch.zeros(1, 2)
    expected = negative_binomial_log_prob(x.t().contiguous(), log_mean, zero)
    torch.testing.assert_close(negative_binomial_log_prob(x.t(), log_mean, zero), expected)


def test_dispersion_starts_at_the_moments_within_bounds() -> None:
    overdispersion = torch.tensor([0.5, 0.0, 1e-4, 1.0, 40.0])
    expected = torch.tensor([2.0, 100.0, 100.0, 1.0, 0.1])
    torch.testing.assert_close(start_log_dispersion(overdispersion).exp(), expected)


def test_frequency_of_an_unseen_feature_is_tiny_and_finite() -> None:
    log_frequency = start_log_frequency(torch.tensor([0.25, 0.75, 0.0]))
    torch.testing.assert_close(log_frequency.exp(), torch.tensor([0.25, 0.75, 1e-8]))


def test_digamma_sum_agrees_with_scipy() -> None:
    """The gradient of log Γ(a + k) − log Γ(a) by log a is a (ψ(a + k) − ψ(a)), on both branches."""
    log_base = torch.linspace(-3, 8, 45, dtype=torch.float64, requires_grad=True)
    count = torch.full((45,), 17.0, dtype=torch.float64)
    log_rising_factorial(count, log_base).sum().backward()
    base = log_base.detach().exp().numpy()
    exact = base * (special.digamma(base + 17) - special.digamma(base))
    torch.testing.assert_close(log_base.grad, torch.tensor(exact), rtol=1e-6, atol=1e-6)


def test_feature_parameter_gives_each_cell_the_row_of_its_batch() -> None:
    start = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    per_batch = FeatureParameter(start, n_rows=2)
    assert per_batch(torch.tensor([1, 0, 1])).tolist() == [[3, 4], [1, 2], [3, 4]]
    shared = FeatureParameter(start[0])
    assert shared(torch.tensor([1, 0, 1])).tolist() == [[1, 2]]
    with torch.no_grad():
        shared.table.zero_()
    assert start[0].tolist() == [1, 2]
    with pytest.raises(RuntimeError):
        FeatureParameter(start, n_rows=3)
