"""Product of experts."""

from __future__ import annotations

from typing import ClassVar

import torch

from multiomics_vae.distributions import GaussianMixture
from multiomics_vae.fusion.base import Evidence, Fused, FusionRule, Subset
from multiomics_vae.fusion.pooling import log_linear_pool, with_prior
from multiomics_vae.fusion.reading import available_experts, check_evidence


class Product(FusionRule):
    """Product of the available experts and the prior expert N(0, I).

    q(z | x_A) ∝ N(z; 0, I) Π_{m ∈ A} q_m(z | x_m), so τ = 1 + Σ τ_m and μ = Σ τ_m μ_m / τ
    (MVAE, Wu & Goodman 2018). Right if the experts are independent given z; dependent experts are
    counted twice, and the posterior becomes too narrow.

    A weight is the share of the precision, τ_m / τ, averaged over the latent dimensions; the prior
    has its true share, 1 / τ. It has no parameters.

    Parameters
    ----------
    n_modalities, n_latent, n_hidden
        M, K and H of `Evidence`.

    Examples
    --------
    >>> Product(n_modalities=2, n_latent=10, n_hidden=64).experts
    ((), (0,), (1,))
    """

    name: ClassVar[str] = "product"

    @property
    def experts(self) -> tuple[Subset, ...]:
        return ((), *((modality,) for modality in range(self.n_modalities)))

    def forward(self, evidence: Evidence) -> Fused:
        """Multiply what is available with the prior."""
        check_evidence(evidence, self)
        experts = with_prior(available_experts(evidence))  # (M + 1, B, K)
        log_weights = torch.zeros_like(experts.mean[..., 0])  # (M + 1, B)
        log_weights[1:].masked_fill_(~evidence.available.T, -torch.inf)
        pooled, shares = log_linear_pool(experts, log_weights)
        return Fused(GaussianMixture.single(pooled), shares.mean(-1))
