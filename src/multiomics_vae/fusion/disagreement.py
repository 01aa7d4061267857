"""How far experts are from one another, and what it costs the one that stands apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import torch
from scipy.stats import chi2
from torch import Tensor

from multiomics_vae.distributions import Gaussian

LEVEL = 0.99


def modality_pairs(n_modalities: int) -> tuple[tuple[int, int], ...]:
    """All pairs of modalities, in the order of `disagreement`."""
    return tuple(combinations(range(n_modalities), 2))


def squared_distance(first: Gaussian, second: Gaussian) -> Tensor:
    """Σ_k (μ_k − ν_k)² / (σ_k² + τ_k²), of Gaussians whose shapes broadcast to ``(..., K)``: ``(...,)``.

    If both are the truth plus independent noise of the variance that they state, it follows a chi-square
    distribution with K degrees of freedom.
    """
    log_variance = torch.logaddexp(first.log_variance, second.log_variance)  # (..., K)
    # The logarithm keeps very sharp experts, and their gradients, from overflowing.
    return ((first.mean - second.mean).square() * (-log_variance).exp()).sum(-1)


def disagreement(experts: Gaussian, available: Tensor) -> Tensor:
    """Squared distance of every pair of experts, over the largest that their variances allow.

    d²_ab / q with q the 99 % quantile of chi-square with K degrees of freedom: two experts that are both
    honest exceed 1 in a cell in a hundred.

    Parameters
    ----------
    experts
        Of all modalities, ``(M, B, K)``, finite.
    available
        ``(B, M)``, bool.

    Returns
    -------
    Tensor
        ``(P, B)`` for the pairs of `modality_pairs`; NaN where a cell lacks one of the two.

    Examples
    --------
    >>> disagreement(Gaussian(torch.zeros(2, 1, 3), torch.zeros(2, 1, 3)), torch.ones(1, 2).bool()).tolist()
    [[0.0]]
    """
    mean, log_variance = experts.mean, experts.log_variance
    largest = float(chi2.ppf(LEVEL, mean.shape[-1]))
    found = mean.new_full((len(modality_pairs(len(mean))), len(available)), torch.nan)  # (P, B)
    for row, (a, b) in enumerate(modality_pairs(len(mean))):
        both = available[:, a] & available[:, b]  # (B,)
        pair = (Gaussian(mean[m, both], log_variance[m, both]) for m in (a, b))
        found[row, both] = squared_distance(*pair) / largest
    return found


@dataclass(frozen=True)
class DisagreementGate:
    """Takes weight from experts that disagree by more than their variances allow.

    For each pair (a, b) of available modalities let r = max(0, d²_ab / q − 1), q the 99 % quantile of
    chi-square with K degrees of freedom. The pair costs log(1 + r²), shared by how far each stands from a
    reference: a bears σ((D_a − D_b) / 2) of it and b the rest, with
    D_m = Σ_k (μ_m − μ_ref)² / (σ_m² + σ_ref²). The weight of an expert is multiplied by exp(−cost), its costs
    summed over its pairs.

    So experts within q keep exactly what they had; far beyond it the outlier's weight falls as 1/d⁴. The
    factor has a continuous gradient everywhere.

    Parameters
    ----------
    n_latent
        K.
    level
        Of the quantile q.

    Examples
    --------
    >>> round(DisagreementGate(n_latent=1).largest, 2)
    6.63
    """

    n_latent: int
    level: float = LEVEL

    @cached_property
    def largest(self) -> float:
        """The largest d² that variances allow."""
        return float(chi2.ppf(self.level, self.n_latent))

    def log_factors(
        self, experts: Gaussian, available: Tensor, reference: Callable[[int, int], Gaussian]
    ) -> Tensor:
        """Logarithms of the factors of all experts, at most 0: ``(M, B)``.

        Parameters
        ----------
        experts
            ``(M, B, K)``; those of masked modalities finite, their values do not matter.
        available
            ``(B, M)``, bool.
        reference
            From a pair of modalities to what they are compared with, broadcast to ``(B, K)``.
        """
        mean, log_variance = experts.mean, experts.log_variance
        each = [Gaussian(*one) for one in zip(mean, log_variance, strict=True)]  # (B, K)
        costs = [mean.new_zeros(len(available)) for _ in each]
        for a, b in modality_pairs(len(each)):
            both = available[:, a] & available[:, b]  # (B,)
            excess = (squared_distance(each[a], each[b]) / self.largest - 1.0).clamp(min=0.0)  # (B,)
            # log(1 + r²) without the square, which may overflow.
            cost = 2.0 * torch.hypot(torch.ones_like(excess), excess).log().masked_fill(~both, 0.0)  # (B,)
            middle = reference(a, b)
            ahead = squared_distance(each[a], middle) - squared_distance(each[b], middle)  # (B,)
            share = (0.5 * ahead).sigmoid()  # (B,)
            costs[a] = costs[a] + share * cost
            costs[b] = costs[b] + (1.0 - share) * cost
        return -torch.stack(costs)  # (M, B)
