"""Inverse distribution functions: what turns a uniform number into a draw.

Counts are found by adding probabilities up from 0, which most counts of single cells are near. They come
out in the type and on the device of the means; the work is done in float64 on the processor.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import special, stats
from torch import Tensor

# Beyond this mean the sum from 0 is longer than scipy's search; beyond the next, single counts are finer
# than any use of them, and the gamma distribution of the same mean and variance takes over.
ADDED_UP_TO = 1_000.0
COUNTED_UP_TO = 1e6
LOWEST_LOG_ZERO = -600.0
LOG_DISPERSION_RANGE = (-10.0, 15.0)
LOWEST_SHAPE = 1e-30


def poisson_quantile(uniform: Tensor, mean: Tensor) -> Tensor:
    """Smallest k with F(k) ≥ u of Poisson counts.

    Parameters
    ----------
    uniform, mean
        u in (0, 1) and μ, of one shape.

    Examples
    --------
    >>> poisson_quantile(torch.tensor([0.5]), torch.tensor([3.0]))
    tensor([3.])
    """
    u, mu = _flat(uniform), _flat(mean)  # (n,)
    found = _counts(u, -mu, mu, np.zeros_like(mu), mu)
    searched = np.flatnonzero(np.isnan(found))
    if len(searched):
        found[searched] = _large_counts(u[searched], mu[searched], None)
    return _like(found, mean)


def negative_binomial_quantile(uniform: Tensor, mean: Tensor, log_dispersion: Tensor) -> Tensor:
    """Smallest k with F(k) ≥ u of counts with mean μ and variance μ + μ²/θ.

    Parameters
    ----------
    uniform, mean
        u in (0, 1) and μ, of one shape ``(..., F)``.
    log_dispersion
        log θ, of a shape that broadcasts to theirs; held to the range from −10 to 15.

    Examples
    --------
    >>> negative_binomial_quantile(torch.tensor([0.6]), torch.ones(1), torch.zeros(1))  # geometric, ½
    tensor([1.])
    """
    theta = _flat(log_dispersion.clamp(*LOG_DISPERSION_RANGE).exp().expand_as(mean))  # (n,)
    u, mu = _flat(uniform), _flat(mean)  # (n,)
    share = mu / (mu + theta)  # (n,)
    found = _counts(u, -theta * np.log1p(mu / theta), theta * share, share, mu)
    searched = np.flatnonzero(np.isnan(found))
    if len(searched):
        found[searched] = _large_counts(u[searched], mu[searched], theta[searched])
    return _like(found, mean)


def beta_quantile(uniform: Tensor, log_alpha: Tensor, log_beta: Tensor) -> Tensor:
    """X with F(x) = u of Beta(α, β), from logs of α and β of the shape of ``uniform``."""
    alpha, beta = (np.exp(_flat(each)) for each in (log_alpha, log_beta))  # (n,)
    alpha, beta = np.maximum(alpha, LOWEST_SHAPE), np.maximum(beta, LOWEST_SHAPE)
    found = special.betaincinv(alpha, beta, _flat(uniform))
    return _like(found, log_alpha)


def beta_binomial_quantile(uniform: Tensor, trials: Tensor, log_alpha: Tensor, log_beta: Tensor) -> Tensor:
    """Smallest k with F(k) ≥ u of BetaBinomial(n, α, β).

    Parameters
    ----------
    uniform, trials, log_alpha, log_beta
        u in (0, 1), n, log α and log β, of one shape.
    """
    u, n = _flat(uniform), _flat(trials)  # (m,)
    alpha, beta = (np.maximum(np.exp(_flat(each)), LOWEST_SHAPE) for each in (log_alpha, log_beta))
    log_zero = special.betaln(alpha, beta + n) - special.betaln(alpha, beta)
    probability = np.exp(np.minimum(log_zero, 0.0))
    found, total = np.zeros_like(u), probability.copy()
    open_ = np.flatnonzero((total < u) & (n > 0))
    while len(open_):
        k, rest = found[open_], n[open_] - found[open_]
        probability[open_] *= rest / (k + 1.0) * (alpha[open_] + k) / (beta[open_] + rest - 1.0)
        total[open_] += probability[open_]
        found[open_] += 1.0
        open_ = open_[(total[open_] < u[open_]) & (found[open_] < n[open_])]
    return _like(found, log_alpha)


def _counts(
    u: np.ndarray, log_zero: np.ndarray, start: np.ndarray, slope: np.ndarray, mean: np.ndarray
) -> np.ndarray:
    """Counts of the entries that can be added up from 0, NaN for the others."""
    # Compiling is for those who draw: importing numba takes a second.
    from multiomics_vae.kernels.compiled.count_quantile_loop import count_quantile_loop

    found: np.ndarray = (u > np.exp(log_zero)).astype(np.float64)  # 0 is settled
    above = np.flatnonzero(found)
    if len(above):
        counts = np.empty(len(above))
        large = (mean[above] > ADDED_UP_TO) | (log_zero[above] < LOWEST_LOG_ZERO)
        limit = np.where(large, 0.0, u[above])  # settled at once
        count_quantile_loop(limit, log_zero[above], start[above], slope[above], counts)
        counts[large] = np.nan
        found[above] = counts
    return found


def _large_counts(u: np.ndarray, mean: np.ndarray, theta: np.ndarray | None) -> np.ndarray:
    variance = mean if theta is None else mean + mean**2 / theta
    shape = mean * (mean / variance)
    found: np.ndarray = np.floor(special.gammaincinv(shape, u) * (variance / mean))
    small = np.flatnonzero(mean < COUNTED_UP_TO)
    if theta is None:
        found[small] = stats.poisson.ppf(u[small], mean[small])
    else:
        some = theta[small]
        found[small] = stats.nbinom.ppf(u[small], some, some / (some + mean[small]))
    return np.asarray(found)


def _flat(values: Tensor) -> np.ndarray:
    array: np.ndarray = values.detach().cpu().numpy().astype(np.float64).ravel()
    return array


def _like(found: np.ndarray, example: Tensor) -> Tensor:
    return torch.from_numpy(found).view(example.shape).to(example)
