"""The arithmetic below the rules."""

from __future__ import annotations

import torch

from multiomics_vae.distributions import Gaussian
from multiomics_vae.fusion.pooling import log_linear_pool, masked_log_softmax, mixture_log_weights, with_prior
from multiomics_vae.fusion.subsets import membership_of, usable_subsets


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_log_linear_pool_is_the_precision_weighted_mean():
    experts = Gaussian(draw(4, 5, 3), draw(4, 5, 3, seed=1))
    weights = draw(4, 5, seed=2).exp()
    pooled, shares = log_linear_pool(experts, weights.log())
    precision = weights[..., None] * experts.precision
    torch.testing.assert_close(pooled.precision, precision.sum(0))
    torch.testing.assert_close(pooled.mean, (precision * experts.mean).sum(0) / precision.sum(0))
    torch.testing.assert_close(shares, precision / precision.sum(0))


def test_log_linear_pool_where_precisions_would_overflow_float32():
    log_variance = torch.tensor([-200.0, -200.0, 200.0]).reshape(3, 1, 1)
    pooled, _ = log_linear_pool(
        Gaussian(torch.tensor([1.0, 3.0, 9.0]).reshape(3, 1, 1), log_variance), torch.zeros(3, 1)
    )
    torch.testing.assert_close(pooled.mean, torch.tensor([[2.0]]))
    torch.testing.assert_close(
        pooled.log_variance, -torch.tensor([[200.0 + 2.0]]).add(torch.tensor(2.0).log() - 2.0)
    )


def test_masked_log_softmax():
    logits = draw(3, 4)
    usable = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 0]]).bool()
    weights = masked_log_softmax(logits, usable).exp()
    torch.testing.assert_close(weights[1:, 0], logits[:, 0].softmax(0))
    assert weights[:, 1].tolist() == [0, 1, 0, 0]
    torch.testing.assert_close(weights[2:, 2], logits[1:, 2].softmax(0))
    assert weights[:, 3].tolist() == [1, 0, 0, 0]


def test_mixture_log_weights_moves_the_prior_only_where_nothing_is_usable():
    usable = torch.tensor([[1, 0, 0], [1, 1, 0]]).bool()
    log_weights = mixture_log_weights(masked_log_softmax(torch.zeros(2, 3), usable))
    torch.testing.assert_close(log_weights.exp(), torch.tensor([[0.5, 0, 1], [0.5, 1, 0]]))


def test_with_prior_puts_the_standard_normal_first():
    experts = with_prior(Gaussian(draw(2, 5, 3), draw(2, 5, 3)))
    assert (experts.mean[0] == 0).all()
    assert (experts.variance[0] == 1).all()
    assert torch.equal(experts.mean[1:], draw(2, 5, 3))


def test_usable_subsets_need_all_their_modalities():
    available = torch.tensor([[True, True, False], [False, True, True]])
    membership = membership_of(((0,), (1,), (0, 1), (1, 2), (0, 1, 2)), 3)
    expected = [[True, False], [True, True], [True, False], [False, True], [False, False]]
    assert usable_subsets(available, membership).tolist() == expected
