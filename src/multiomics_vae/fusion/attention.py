"""Attention over the experts."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.fusion.base import Evidence, Fused, FusionRule, Subset
from multiomics_vae.fusion.pooling import masked_log_softmax
from multiomics_vae.fusion.reading import available_experts, available_features, check_evidence


class Attention(FusionRule):
    """Learned average of the available experts' parameters.

    a_m ∝ exp(vᵀ tanh(W_m h_m + b_m)) over the available modalities (additive attention, Bahdanau et al.
    2015), v a learned query; every modality has its own W_m, because the encoders do not share a feature
    space. Then μ = Σ a_m μ_m and log σ² = Σ a_m log σ_m².

    The parameters are averaged, not the densities: more evidence does not narrow the posterior and
    conflict between experts does not widen it. The variance lies between the smallest and the largest
    of the experts (their weighted geometric mean). Equal weights at the start; with one modality the
    posterior is its expert. The row () of the weights is 1 where nothing is available, which gives
    N(0, I), and 0 elsewhere.

    Parameters
    ----------
    n_modalities, n_latent, n_hidden
        M, K and H of `Evidence`; H is also the width of the query.

    Examples
    --------
    >>> Attention(n_modalities=2, n_latent=10, n_hidden=64).experts
    ((), (0,), (1,))
    """

    name: ClassVar[str] = "attention"

    def __init__(self, n_modalities: int, n_latent: int, n_hidden: int) -> None:
        super().__init__(n_modalities, n_latent, n_hidden)
        # The global generator is used, as by every torch layer: a model is built inside fork_rng.
        self.key_weight = nn.Parameter(torch.randn(n_modalities, n_hidden, n_hidden) / n_hidden**0.5)
        self.key_bias = nn.Parameter(torch.zeros(n_modalities, 1, n_hidden))
        self.query = nn.Parameter(torch.zeros(n_hidden))

    @property
    def experts(self) -> tuple[Subset, ...]:
        return ((), *((modality,) for modality in range(self.n_modalities)))

    def forward(self, evidence: Evidence) -> Fused:
        """Average what is available."""
        check_evidence(evidence, self)
        experts = available_experts(evidence)  # (M, B, K)
        logits = self._scores(available_features(evidence)).to(experts.mean.dtype)  # (M, B)
        weights = masked_log_softmax(logits, evidence.available.T).exp()  # (M + 1, B)
        used = weights[1:].unsqueeze(-1)  # (M, B, 1)
        pooled = Gaussian((used * experts.mean).sum(0), (used * experts.log_variance).sum(0))  # (B, K)
        return Fused(GaussianMixture.single(pooled), weights)

    def _scores(self, features: Tensor) -> Tensor:
        keys = (torch.bmm(features, self.key_weight) + self.key_bias).tanh()  # (M, B, H)
        return keys @ self.query  # (M, B)
