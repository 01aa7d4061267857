"""The log likelihoods against torch.distributions and scipy, independently of the reference."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from kernel_cases import make_inputs
from torch import Tensor

from multiomics_vae.kernels import (
    ChunkOptions,
    ElementwiseKernel,
    NonzeroTerms,
    bernoulli_log_likelihood,
    fused_log_likelihood,
    negative_binomial_log_likelihood,
    poisson_log_likelihood,
)
from multiomics_vae.kernels.rising_factorial import log_rising_factorial

OPTIONS = ChunkOptions(chunk_size=8)


def test_bernoulli_is_that_of_torch() -> None:
    i = make_inputs()
    logits = i.hidden @ i.weight.T + i.bias + i.offset[:, None]  # (B, F)
    is_open = (i.data.to_dense() > 0).double()
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(is_open).sum(1)
    found = bernoulli_log_likelihood(i.hidden, i.weight, i.bias, i.data, offset=i.offset, options=OPTIONS)
    torch.testing.assert_close(found.per_cell, expected.detach(), rtol=1e-12, atol=0)


def test_poisson_is_that_of_scipy() -> None:
    i = make_inputs()
    mean = torch.softmax(i.hidden @ i.weight.T + i.bias, 1) * i.depth[:, None]  # (B, F)
    expected = scipy.stats.poisson.logpmf(i.data.to_dense().numpy(), mean.detach().numpy()).sum(1)
    found = poisson_log_likelihood(i.hidden, i.weight, i.bias, i.data, i.depth, options=OPTIONS)
    np.testing.assert_allclose(found.per_cell.numpy(), expected, rtol=1e-12)


def test_negative_binomial_is_that_of_scipy() -> None:
    i = make_inputs(n_batches=3)
    mean = torch.softmax(i.hidden @ i.weight.T + i.bias, 1) * i.depth[:, None]  # (B, F)
    theta = i.log_dispersion.exp()[i.batch].detach().numpy()  # (B, F)
    success = theta / (theta + mean.detach().numpy())
    expected = scipy.stats.nbinom.logpmf(i.data.to_dense().numpy(), theta, success).sum(1)
    found = negative_binomial_log_likelihood(
        i.hidden, i.weight, i.bias, i.data, i.depth, i.log_dispersion, batch=i.batch, options=OPTIONS
    )
    np.testing.assert_allclose(found.per_cell.numpy(), expected, rtol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rising_factorial(dtype: torch.dtype) -> None:
    count = torch.tensor([0.0, 1.0, 2.0, 7.0, 2.5, 1000.0, 1e5], dtype=dtype)
    base = torch.tensor([1e-6, 1e-3, 0.3, 1.0, 5.0, 40.0, 3e3], dtype=dtype)
    count, base = (grid.reshape(-1) for grid in torch.meshgrid(count, base, indexing="ij"))
    value, slope = log_rising_factorial(count, base)
    k, a = count.double().numpy(), base.double().numpy()
    expected = scipy.special.gammaln(a + k) - scipy.special.gammaln(a)
    expected_slope = a * (scipy.special.digamma(a + k) - scipy.special.digamma(a))
    tolerance = 2e-12 if dtype == torch.float64 else 3e-6
    # scipy's own difference of two large numbers is good to about 1e-9 here
    np.testing.assert_allclose(value.double().numpy(), expected, rtol=tolerance, atol=max(tolerance, 1e-9))
    np.testing.assert_allclose(
        slope.double().numpy(), expected_slope, rtol=tolerance, atol=max(tolerance, 1e-9)
    )
    assert float(value[count == 0].abs().max()) <= 2 * torch.finfo(dtype).eps
    assert float(slope[count == 0].abs().max()) == 0.0


def test_rising_factorial_keeps_digits_at_a_large_base() -> None:
    base = torch.tensor([1e4, 1e6, 3e6])
    value, slope = log_rising_factorial(torch.full((3,), 3.0), base)
    exact = (base.double() * (base.double() + 1) * (base.double() + 2)).log()
    torch.testing.assert_close(value.double(), exact, rtol=2e-7, atol=0)
    torch.testing.assert_close(slope, torch.full((3,), 3.0), rtol=1e-3, atol=0)


class _UnitGaussianKernel(ElementwiseKernel):
    """½ (x − a)², a likelihood that nobody built: the loop takes it as it is."""

    normalised = False

    def zero_slope(self, argument: Tensor, dispersion: Tensor | None, out: Tensor) -> None:
        out.copy_(argument)

    def zero_cost(self, argument: Tensor, dispersion: Tensor | None, out: Tensor) -> None:
        torch.square(argument, out=out).mul_(0.5)

    def nonzero_terms(self, argument: Tensor, values: Tensor, dispersion: Tensor | None) -> NonzeroTerms:
        return NonzeroTerms(cost=0.5 * values.square() - values * argument, slope=-values)


def test_a_new_likelihood_is_one_small_class() -> None:
    i = make_inputs()
    found = fused_log_likelihood(
        _UnitGaussianKernel(), i.hidden, i.weight, i.bias, i.data, offset=i.offset, options=OPTIONS
    )
    leaves = (i.hidden, i.weight, i.bias, i.offset)
    mean = i.hidden @ i.weight.T + i.bias + i.offset[:, None]  # (B, F)
    expected = -0.5 * (i.data.to_dense() - mean).square().sum()
    torch.testing.assert_close(found.total, expected, rtol=1e-12, atol=0)
    for one, other in zip(
        torch.autograd.grad(found.total, leaves), torch.autograd.grad(expected, leaves), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)
