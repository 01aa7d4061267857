"""The two distributions that travel between the rooms: a diagonal Gaussian and a mixture of them.

Every posterior, of every fusion rule, and every prior is a mixture of diagonal Gaussians; one
component is the ordinary case and has closed forms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian, N(mean, exp(log_variance)).

    Parameters
    ----------
    mean, log_variance
        ``(..., K)``.
    """

    mean: Tensor
    log_variance: Tensor

    @property
    def variance(self) -> Tensor:
        return self.log_variance.exp()

    @property
    def precision(self) -> Tensor:
        return (-self.log_variance).exp()

    def at(self, noise: Tensor) -> Tensor:
        """Turn standard normal numbers into draws: mean + sd · ε."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density, summed over the latent dimensions: ``(...,)``."""
        squared = (z - self.mean).square() * self.precision
        return -0.5 * (squared + self.log_variance + LOG_2PI).sum(-1)

    def entropy(self) -> Tensor:
        """Differential entropy, ½ Σ (log σ² + log 2πe): ``(...,)``."""
        return 0.5 * (self.log_variance + LOG_2PI + 1.0).sum(-1)


def kl_gaussian(q: Gaussian, p: Gaussian) -> Tensor:
    """Kullback-Leibler divergence of two diagonal Gaussians, a value for every latent dimension.

    KL(q ‖ p) = ½ [σ_q²/σ_p² + (μ_q − μ_p)²/σ_p² − 1 − log σ_q²/σ_p²].

    Parameters
    ----------
    q, p
        Shapes that broadcast to ``(..., K)``.

    Returns
    -------
    Tensor
        ``(..., K)``; sum the last dimension for the divergence.
    """
    log_ratio = q.log_variance - p.log_variance
    distance = (q.mean - p.mean).square() * p.precision
    return 0.5 * (log_ratio.exp() + distance - 1.0 - log_ratio)


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of C diagonal Gaussians for each of B cells.

    One draw from every component, draw c weighted by ``log_weights.exp()[c]``, gives an unbiased
    expectation under the mixture (stratified sampling).

    Parameters
    ----------
    components
        Gaussian of shape ``(C, B, K)``.
    log_weights
        ``(C, B)``, normalised over C; ``-inf`` for a component that a cell does not have.
    """

    components: Gaussian
    log_weights: Tensor

    @classmethod
    def single(cls, gaussian: Gaussian) -> GaussianMixture:
        """Make the mixture of one component from a Gaussian of shape ``(B, K)``."""
        components = Gaussian(gaussian.mean.unsqueeze(0), gaussian.log_variance.unsqueeze(0))
        return cls(components, torch.zeros_like(components.mean[..., 0]))

    @property
    def n_components(self) -> int:
        return self.log_weights.shape[0]

    @property
    def mean(self) -> Tensor:
        """Mean of the mixture: ``(B, K)``."""
        weights = self.log_weights.exp().unsqueeze(-1)  # (C, B, 1)
        return (weights * self.components.mean).sum(0)  # (B, K)

    @property
    def variance(self) -> Tensor:
        """Variance of the mixture, within plus between components: ``(B, K)``."""
        weights = self.log_weights.exp().unsqueeze(-1)  # (C, B, 1)
        between = (self.components.mean - self.mean).square()  # (C, B, K)
        return (weights * (self.components.variance + between)).sum(0)  # (B, K)

    @property
    def gaussian(self) -> Gaussian:
        """The Gaussian of shape ``(B, K)`` with the mixture's mean and variance (itself, if C = 1)."""
        if self.n_components == 1:
            return Gaussian(self.components.mean[0], self.components.log_variance[0])
        return Gaussian(self.mean, self.variance.log())

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of ``z`` with shape ``(..., B, K)``: ``(..., B)``."""
        each = self.components.log_prob(z.unsqueeze(-3))  # (..., C, B)
        return torch.logsumexp(each + self.log_weights, dim=-2)  # (..., B)

    def sample(self, noise: Tensor, uniform: Tensor) -> Tensor:
        """Turn noise into draws from the mixture, so that the caller owns the randomness.

        Parameters
        ----------
        noise
            Standard normal, ``(S, B, K)``.
        uniform
            Uniform in [0, 1), ``(S, B)``: chooses the component.

        Returns
        -------
        Tensor
            ``(S, B, K)``.
        """
        edges = self.log_weights.exp().cumsum(0)  # (C, B)
        # Rounding may end the sum below 1; a draw must not fall on a last component of weight 0.
        edges = edges / edges[-1:]  # (C, B)
        chosen = (uniform.unsqueeze(1) >= edges.unsqueeze(0)).sum(1)  # (S, B)
        chosen = chosen.clamp(max=self.n_components - 1)
        index = chosen.unsqueeze(-1).expand_as(noise)  # (S, B, K)
        mean = self.components.mean.gather(0, index)
        log_variance = self.components.log_variance.gather(0, index)
        return mean + (0.5 * log_variance).exp() * noise  # (S, B, K)

    def entropy_bound(self) -> Tensor:
        """Entropy of the Gaussian with the same moments, an upper bound (exact if C = 1): ``(B,)``."""
        return self.gaussian.entropy()
