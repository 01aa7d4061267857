"""Gated consensus of single and joint experts."""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor, nn

from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.fusion.base import Evidence, Fused, FusionRule, Subset
from multiomics_vae.fusion.expert_network import ExpertNetwork
from multiomics_vae.fusion.pooling import log_linear_pool, masked_log_softmax, with_prior
from multiomics_vae.fusion.reading import available_experts, available_features, check_evidence
from multiomics_vae.fusion.subsets import membership_of, usable_subsets

MAX_MODALITIES_WITH_ALL_SUBSETS = 3


class Gated(FusionRule):
    """Consensus of the experts of single modalities and of joint subsets, weighted by a gate.

    q(z | x_A) ∝ p(z) Π_S (q_S(z | x_S) / p(z))^{w_S} with Σ w_S = 1, in which the prior cancels:
    τ = Σ w_S τ_S and μ = Σ w_S τ_S μ_S / τ, dynamically weighted log-linear pooling. The posterior is
    never narrower than its sharpest expert, so dependent experts are not counted twice as in the
    product; what the modalities say together is learned by the joint experts.

    A joint expert reads the concatenated hidden features of the modalities of its subset S. There is one
    for every subset of two or more modalities if M ≤ 3, and for every pair and the full set otherwise.
    The gate reads the hidden features of all available modalities and the mask; its weights are a softmax
    over the experts whose modalities are all available, equal at the start. With one modality the
    posterior is its expert.

    With a `DisagreementGate` the weights of single experts are multiplied by their factors before they are
    normalised, and the reference of two modalities is their joint expert.

    The row () of the weights is 1 where nothing is available, which gives N(0, I), and 0 elsewhere.

    Parameters
    ----------
    n_modalities, n_latent, n_hidden
        M, K and H of `Evidence`; H is also the width of the gate and of the joint experts.

    Examples
    --------
    >>> Gated(n_modalities=2, n_latent=10, n_hidden=64).experts
    ((), (0,), (1,), (0, 1))
    """

    name: ClassVar[str] = "gated"
    can_gate_disagreement: ClassVar[bool] = True
    membership: Tensor

    def __init__(self, n_modalities: int, n_latent: int, n_hidden: int) -> None:
        super().__init__(n_modalities, n_latent, n_hidden)
        if n_modalities <= MAX_MODALITIES_WITH_ALL_SUBSETS:
            sizes = tuple(range(2, n_modalities + 1))
        else:
            sizes = (2, n_modalities)
        pools = (combinations(range(n_modalities), size) for size in sizes)
        self._joint = tuple(subset for pool in pools for subset in pool)
        self.joint_experts = nn.ModuleList(
            ExpertNetwork(len(subset) * n_hidden, n_hidden, n_latent) for subset in self._joint
        )
        last = nn.Linear(n_hidden, len(self.experts) - 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.gate = nn.Sequential(nn.Linear(n_modalities * (n_hidden + 1), n_hidden), nn.SiLU(), last)
        membership = membership_of(self.experts[1:], n_modalities)  # (E, M)
        self.register_buffer("membership", membership, persistent=False)

    @property
    def experts(self) -> tuple[Subset, ...]:
        return ((), *((modality,) for modality in range(self.n_modalities)), *self._joint)

    def forward(self, evidence: Evidence) -> Fused:
        """Pool the experts whose modalities are available."""
        check_evidence(evidence, self)
        features = available_features(evidence)  # (M, B, H)
        experts = self._all_experts(available_experts(evidence), features)  # (E, B, K)
        gate_input = torch.cat([*features, evidence.available.to(features.dtype)], dim=-1)  # (B, M H + M)
        logits = self.gate(gate_input).T + self._factors(experts, evidence.available)  # (E, B)
        usable = usable_subsets(evidence.available, self.membership)  # (E, B)
        log_weights = masked_log_softmax(logits.to(experts.mean.dtype), usable)  # (E + 1, B)
        pooled, _ = log_linear_pool(with_prior(experts), log_weights)
        return Fused(GaussianMixture.single(pooled), log_weights.exp())

    def _factors(self, experts: Gaussian, available: Tensor) -> Tensor:
        """Logarithms of what disagreement leaves of each expert's weight: ``(E, B)``."""
        factors = torch.zeros_like(experts.mean[..., 0])  # (E, B)
        if self.disagreement_gate is None or self.n_modalities < 2:
            return factors
        rows = {subset: row for row, subset in enumerate(self.experts[1:])}
        n = self.n_modalities

        def joint_of(a: int, b: int) -> Gaussian:
            row = rows[a, b]
            return Gaussian(experts.mean[row], experts.log_variance[row])  # (B, K)

        single = Gaussian(experts.mean[:n], experts.log_variance[:n])  # (M, B, K)
        return torch.cat([self.disagreement_gate.log_factors(single, available, joint_of), factors[n:]])

    def _all_experts(self, single: Gaussian, features: Tensor) -> Gaussian:
        """The single experts, then the joint ones: ``(E, B, K)``."""
        means, log_variances = [*single.mean], [*single.log_variance]
        for subset, network in zip(self._joint, self.joint_experts, strict=True):
            joint = network(torch.cat([features[modality] for modality in subset], dim=-1))  # (B, K)
            means.append(joint.mean.to(single.mean.dtype))
            log_variances.append(joint.log_variance.to(single.mean.dtype))
        return Gaussian(torch.stack(means), torch.stack(log_variances))
