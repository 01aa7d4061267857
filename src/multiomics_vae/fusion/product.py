"""Product of experts."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.fusion.base import Evidence, Fused, FusionRule, Subset
from multiomics_vae.fusion.pooling import log_linear_pool, with_prior
from multiomics_vae.fusion.reading import available_experts, check_evidence


class Product(FusionRule):
    """Product of the prior expert N(0, I) and the available experts, each raised to a learned power.

    q(z | x_A) ∝ N(z; 0, I) Π_{m ∈ A} q_m(z | x_m)^{α_m}, so τ = 1 + Σ α_m τ_m and μ = Σ α_m τ_m μ_m / τ.
    With every α = 1, as at the start, this is the product of MVAE (Wu & Goodman 2018), which is right if
    the experts are independent given z and counts twice what two of them say. Powers (generalised
    product of experts, Cao & Fleet 2014) let it be counted once.

    α_m = exp(Σ a_mn) over the other available modalities n, with a_mn learned for each latent dimension.
    So α = 1 where a modality is alone: its expert may be as wide as is right for it alone and yet say no
    more than is new beside the others.

    With a `DisagreementGate` the power of an expert is also multiplied by its factor, and the reference is
    the prior expert: of two that disagree the one further from N(0, I) loses.

    A weight is the share of the precision, α_m τ_m / τ, averaged over the latent dimensions; the prior
    has its true share, 1 / τ.

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
    can_gate_disagreement: ClassVar[bool] = True

    def __init__(self, n_modalities: int, n_latent: int, n_hidden: int) -> None:
        super().__init__(n_modalities, n_latent, n_hidden)
        # a_mn of the docstring, (M, M, K); the diagonal is not read.
        self.log_powers = nn.Parameter(torch.zeros(n_modalities, n_modalities, n_latent))

    @property
    def experts(self) -> tuple[Subset, ...]:
        return ((), *((modality,) for modality in range(self.n_modalities)))

    def forward(self, evidence: Evidence) -> Fused:
        """Raise what is available to its powers and multiply it with the prior."""
        check_evidence(evidence, self)
        experts = with_prior(self._raised(available_experts(evidence), evidence.available))  # (M + 1, B, K)
        log_weights = torch.zeros_like(experts.mean[..., 0])  # (M + 1, B)
        log_weights[1:].masked_fill_(~evidence.available.T, -torch.inf)
        pooled, shares = log_linear_pool(experts, log_weights)
        return Fused(GaussianMixture.single(pooled), shares.mean(-1))

    def _raised(self, experts: Gaussian, available: Tensor) -> Gaussian:
        """q_m^α, normalised: the expert with its precision times α, ``(M, B, K)``."""
        itself = torch.eye(self.n_modalities, dtype=torch.bool, device=self.log_powers.device)  # (M, M)
        between = self.log_powers.masked_fill(itself.unsqueeze(-1), 0.0).to(experts.mean.dtype)  # (M, M, K)
        log_variance = experts.log_variance  # (M, B, K)
        for other, is_there in enumerate(available.T.unsqueeze(-1)):  # (B, 1)
            log_variance = log_variance - is_there * between[:, other].unsqueeze(1)  # (M, B, K)
        if self.disagreement_gate is not None:
            origin = torch.zeros_like(experts.mean[0])  # (B, K)
            prior = Gaussian(origin, origin)
            factors = self.disagreement_gate.log_factors(experts, available, lambda a, b: prior)  # (M, B)
            log_variance = log_variance - factors.unsqueeze(-1)  # (M, B, K)
        return Gaussian(experts.mean, log_variance)
