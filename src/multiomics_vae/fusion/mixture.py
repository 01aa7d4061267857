"""Mixture of experts."""

from __future__ import annotations

from typing import ClassVar

import torch

from multiomics_vae.distributions import GaussianMixture
from multiomics_vae.fusion.base import Evidence, Fused, FusionRule, Subset
from multiomics_vae.fusion.pooling import masked_log_softmax, mixture_log_weights
from multiomics_vae.fusion.reading import available_experts, check_evidence


class Mixture(FusionRule):
    """Average of the densities of the available experts.

    q(z | x_A) = (1 / |A|) Σ_{m ∈ A} q_m(z | x_m) (MMVAE, Shi et al. 2019). Every expert must explain
    the cell alone; conflicting experts give a wide posterior with several modes.

    The posterior has M components, those of masked modalities with log weight -inf; where nothing is
    available the first is N(0, I) with weight 1. The row () of the weights is 1 there and 0 elsewhere.
    It has no parameters.

    Parameters
    ----------
    n_modalities, n_latent, n_hidden
        M, K and H of `Evidence`.

    Examples
    --------
    >>> Mixture(n_modalities=2, n_latent=10, n_hidden=64).experts
    ((), (0,), (1,))
    """

    name: ClassVar[str] = "mixture"

    @property
    def experts(self) -> tuple[Subset, ...]:
        return ((), *((modality,) for modality in range(self.n_modalities)))

    def forward(self, evidence: Evidence) -> Fused:
        """Average what is available."""
        check_evidence(evidence, self)
        experts = available_experts(evidence)  # (M, B, K)
        equal = torch.zeros_like(experts.mean[..., 0])  # (M, B)
        log_weights = masked_log_softmax(equal, evidence.available.T)  # (M + 1, B)
        posterior = GaussianMixture(experts, mixture_log_weights(log_weights))
        return Fused(posterior, log_weights.exp())
