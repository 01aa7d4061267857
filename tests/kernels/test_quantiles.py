"""Inverse distribution functions against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from multiomics_vae.kernels import (
    beta_binomial_quantile,
    beta_quantile,
    negative_binomial_quantile,
    poisson_quantile,
)

UNIFORM = np.concatenate([[1e-12, 1e-4], np.linspace(0.003, 0.997, 400), [0.9999, 1 - 1e-12]])
MEANS = (1e-6, 0.02, 1.0, 17.3, 400.0, 1_200.0, 50_000.0)


def tensors(*arrays: np.ndarray | float) -> tuple[torch.Tensor, ...]:
    return tuple(torch.as_tensor(np.broadcast_to(each, UNIFORM.shape).copy()) for each in arrays)


@pytest.mark.parametrize("mean", MEANS)
def test_poisson(mean: float) -> None:
    found = poisson_quantile(*tensors(UNIFORM, mean)).numpy()
    np.testing.assert_array_equal(found, stats.poisson.ppf(UNIFORM, mean))


@pytest.mark.parametrize("theta", [1e-3, 0.3, 4.0, 1e4])
@pytest.mark.parametrize("mean", MEANS)
def test_negative_binomial(mean: float, theta: float) -> None:
    found = negative_binomial_quantile(*tensors(UNIFORM, mean, np.log(theta))).numpy()
    # A count is right if it is the first whose distribution function reaches u, up to rounding.
    known = stats.nbinom(theta, theta / (theta + mean))
    assert (known.cdf(found) >= UNIFORM * (1 - 1e-9) - 1e-13).all()
    assert (known.cdf(found - 1) <= UNIFORM * (1 + 1e-9) + 1e-13).all()


def test_counts_beyond_counting_follow_a_gamma() -> None:
    mean, theta = 1e9, 2.0
    found = negative_binomial_quantile(*tensors(UNIFORM, mean, np.log(theta))).numpy()
    np.testing.assert_allclose(found, stats.gamma.ppf(UNIFORM, theta, scale=mean / theta), rtol=1e-6, atol=2)


def test_beta_and_beta_binomial() -> None:
    for alpha, beta in ((0.05, 3.0), (2.0, 2.0), (40.0, 0.4)):
        found = beta_quantile(*tensors(UNIFORM, np.log(alpha), np.log(beta))).numpy()
        np.testing.assert_allclose(found, stats.beta.ppf(UNIFORM, alpha, beta), rtol=1e-9)
        for trials in (0, 1, 30):
            counts = beta_binomial_quantile(*tensors(UNIFORM, trials, np.log(alpha), np.log(beta))).numpy()
            known = stats.betabinom(trials, alpha, beta)
            assert (known.cdf(counts) >= UNIFORM - 1e-9).all()
            assert (known.cdf(counts - 1) <= UNIFORM + 1e-9).all()


def test_type_and_shape_are_those_of_the_means() -> None:
    mean = torch.rand(3, 4)
    found = negative_binomial_quantile(torch.full((3, 4), 0.5).double(), mean, torch.zeros(1, 4))
    assert found.shape == mean.shape
    assert found.dtype == mean.dtype
