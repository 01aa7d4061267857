"""Elementwise arithmetic of counts, in log space, shared by the count likelihoods.

Most counts are 0, and at 0 every lgamma cancels: lgamma is evaluated only where the count is above 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

STIRLING_FROM = 10.0
LOWEST_FREQUENCY = 1e-8
LOG_DISPERSION_RANGE = (-10.0, 15.0)
START_DISPERSION_RANGE = (0.1, 100.0)


def log_rising_factorial(count: Tensor, log_base: Tensor) -> Tensor:
    """Log of the rising factorial, log Γ(a + k) − log Γ(a), with a = exp(``log_base``).

    The difference of two lgammas loses all digits in float32 once a is large, so Stirling's series of
    the difference is used from a = 10 on, (a + k − ½) log(1 + k/a) + k log a − k + …, with an error
    below 1e-8. Below, log a + log Γ(a + k) − log Γ(a + 1) stays finite however small a is.

    Parameters
    ----------
    count
        k ≥ 0, any shape.
    log_base
        log a, of the same shape; in float32 from −80 to 40.

    Returns
    -------
    Tensor
        Same shape; 0 where the count is 0.

    Examples
    --------
    >>> log_rising_factorial(torch.tensor(3.0), torch.tensor(2.0).log()).exp()  # 2 · 3 · 4
    tensor(24.)
    """
    base = log_base.exp()
    is_large = base > STIRLING_FROM
    # Each branch sees only bases that it is made for: an inf in the branch not taken would still
    # reach the gradient as 0 · inf.
    small = base.clamp(max=STIRLING_FROM)
    small_log = log_base.clamp(max=math.log(STIRLING_FROM))
    below = small_log + torch.lgamma(small + count) - torch.lgamma(small + 1.0)
    large = base.clamp(min=STIRLING_FROM)
    end = large + count
    correction = (1.0 / end - 1.0 / large) / 12.0 - (end.pow(-3) - large.pow(-3)) / 360.0
    above = (end - 0.5) * torch.log1p(count / large) + count * large.log() - count + correction
    return torch.where(count > 0, torch.where(is_large, above, below), torch.zeros_like(base))


def log_mean_counts(logits: Tensor, depth: Tensor) -> Tensor:
    """Log of depth · softmax(logits) over features, without leaving log space.

    Parameters
    ----------
    logits
        ``(B, F)``.
    depth
        Positive, ``(B,)``.

    Returns
    -------
    Tensor
        ``(B, F)``.
    """
    return functional.log_softmax(logits, dim=-1) + depth.log().unsqueeze(-1)  # (B, F)


def positions_of_nonzero(x: Tensor) -> Tensor:
    """Positions of the counts above 0 in the flattened ``x``: ``(n,)``, int64."""
    return x.reshape(-1).nonzero().squeeze(1)  # (n,)


def take_entries(table: Tensor, positions: Tensor) -> Tensor:
    """Read flat positions of a ``(B, F)`` tensor, or of the ``(1, F)`` row that stands for it."""
    if table.shape[0] == 1:
        return table[0].gather(0, positions % table.shape[-1])  # (n,)
    return table.reshape(-1).gather(0, positions)  # (n,)


def negative_binomial_log_prob(x: Tensor, log_mean: Tensor, log_dispersion: Tensor) -> Tensor:
    """Log probability of the negative binomial with mean μ and inverse dispersion θ.

    With r = log μ − log θ it is −θ softplus(r) everywhere, plus, where x > 0,
    x log σ(r) + log Γ(x + θ) − log Γ(θ) − log x!. The variance is μ + μ²/θ.

    Parameters
    ----------
    x
        Counts, ``(B, F)``.
    log_mean
        log μ, ``(B, F)``.
    log_dispersion
        log θ, ``(B, F)`` or ``(1, F)``; held to the range from −10 to 15, beyond which
        the distribution is all zeros or Poisson to working precision.

    Returns
    -------
    Tensor
        ``(B, F)``.

    Examples
    --------
    >>> one = torch.ones(1, 1)
    >>> negative_binomial_log_prob(one, 0 * one, 0 * one).exp()  # geometric with success ½
    tensor([[0.2500]])
    """
    log_theta = log_dispersion.clamp(*LOG_DISPERSION_RANGE)
    log_ratio = log_mean - log_theta  # (B, F)
    at_zero = -log_theta.exp() * functional.softplus(log_ratio)  # (B, F)
    positions = positions_of_nonzero(x)
    count = x.reshape(-1).gather(0, positions)  # (n,)
    above_zero = (
        count * functional.logsigmoid(take_entries(log_ratio, positions))
        + log_rising_factorial(count, take_entries(log_theta, positions))
        - torch.lgamma(count + 1.0)
    )  # (n,)
    return at_zero.reshape(-1).scatter_add(0, positions, above_zero).view(x.shape)


def negative_binomial_variance(mean: Tensor, log_dispersion: Tensor) -> Tensor:
    """Variance μ + μ²/θ from the mean μ ``(B, F)`` and log θ ``(B, F)`` or ``(1, F)``: ``(B, F)``."""
    return mean + mean.square() * (-log_dispersion.clamp(*LOG_DISPERSION_RANGE)).exp()


def start_log_dispersion(overdispersion: Tensor) -> Tensor:
    """Log of the inverse dispersion at the start, θ = 1 / overdispersion, held to 0.1 … 100.

    What cells differ in beside depth counts as dispersion here, so θ starts low rather than high: too
    high a θ makes the decoder chase noise in strongly overdispersed counts, such as reads.

    Parameters
    ----------
    overdispersion
        As in `FeatureStatistics`, ``(F,)``.

    Returns
    -------
    Tensor
        ``(F,)``.
    """
    lowest, highest = START_DISPERSION_RANGE
    return -overdispersion.clamp(1.0 / highest, 1.0 / lowest).log()


def start_log_frequency(mean_frequency: Tensor) -> Tensor:
    """Log of each feature's share of a library, no share below 1e-8 so that it stays finite: ``(F,)``."""
    return mean_frequency.clamp(min=LOWEST_FREQUENCY).log()
