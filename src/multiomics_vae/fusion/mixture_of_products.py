"""Mixture of products of experts."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.errors import InputError
from multiomics_vae.fusion.base import Evidence, Fused, FusionRule, Subset
from multiomics_vae.fusion.pooling import masked_log_softmax, mixture_log_weights
from multiomics_vae.fusion.reading import available_experts, check_evidence
from multiomics_vae.fusion.subsets import membership_of, usable_subsets

MAX_MODALITIES = 8


class MixtureOfProducts(FusionRule):
    """Average of the product posteriors of all non-empty subsets of what is available.

    q(z | x_A) = 1 / (2^|A| − 1) Σ_{∅ ≠ S ⊆ A} q_S(z), with q_S ∝ N(0, I) Π_{m ∈ S} q_m, the posterior
    of the `product` rule with every power 1, prior expert included (MoPoE, Sutter et al. 2021).

    The components are 2^M − 1: 3, 7, 15, 31, … 255 for 2, 3, 4, 5, … 8 modalities. Memory and the cost
    of a stratified sample grow with them, so more than 8 modalities are refused. Where nothing is
    available the first component is N(0, I) with weight 1; the row () of the weights is 1 there and 0
    elsewhere. It has no parameters.

    Parameters
    ----------
    n_modalities, n_latent, n_hidden
        M, K and H of `Evidence`.

    Raises
    ------
    InputError
        If M > 8.

    Examples
    --------
    >>> MixtureOfProducts(n_modalities=2, n_latent=10, n_hidden=64).experts
    ((), (0,), (1,), (0, 1))
    """

    name: ClassVar[str] = "mixture_of_products"
    membership: Tensor

    def __init__(self, n_modalities: int, n_latent: int, n_hidden: int) -> None:
        super().__init__(n_modalities, n_latent, n_hidden)
        if n_modalities > MAX_MODALITIES:
            raise InputError(
                f"fusion='mixture_of_products' would hold 2^M − 1 = {2**n_modalities - 1} components for "
                f"each cell of M = {n_modalities} modalities; at most {MAX_MODALITIES} are taken. "
                "Use fusion='mixture' (one component a modality) or fusion='product' (one in all)."
            )
        membership = membership_of(self.experts[1:], n_modalities)  # (2^M - 1, M)
        self.register_buffer("membership", membership, persistent=False)

    @property
    def experts(self) -> tuple[Subset, ...]:
        # Subset number i holds modality m if bit m of i is set: the order in which `_products` makes them.
        numbers = range(2**self.n_modalities)
        return tuple(tuple(m for m in range(self.n_modalities) if i >> m & 1) for i in numbers)

    def forward(self, evidence: Evidence) -> Fused:
        """Average the products over the subsets of what is available."""
        check_evidence(evidence, self)
        usable = usable_subsets(evidence.available, self.membership)  # (2^M - 1, B)
        components = _products(available_experts(evidence), evidence.available)  # (2^M - 1, B, K)
        equal = torch.zeros_like(components.mean[..., 0])  # (2^M - 1, B)
        log_weights = masked_log_softmax(equal, usable)  # (2^M, B)
        posterior = GaussianMixture(components, mixture_log_weights(log_weights))
        return Fused(posterior, log_weights.exp())


def _products(experts: Gaussian, available: Tensor) -> Gaussian:
    """Products with the prior for all non-empty subsets, ``(2^M - 1, B, K)``.

    Starts from the prior and doubles: every product so far is multiplied with the next expert, a pair
    at a time (μ ← μ + share · (μ_m − μ)), so M steps make 2^M products. A masked expert has precision 0
    and changes nothing.
    """
    masked = ~available.T.unsqueeze(-1)  # (M, B, 1)
    log_precisions = (-experts.log_variance).masked_fill(masked, -torch.inf)  # (M, B, K)
    mean = torch.zeros_like(experts.mean[:1])  # (1, B, K)
    log_precision = torch.zeros_like(mean)  # (1, B, K)
    for expert_mean, expert_log_precision in zip(experts.mean, log_precisions, strict=True):
        share = (expert_log_precision - log_precision).sigmoid()  # (2^m, B, K)
        total = torch.logaddexp(log_precision, expert_log_precision)  # (2^m, B, K)
        mean = torch.cat([mean, mean + share * (expert_mean - mean)])  # (2^(m+1), B, K)
        log_precision = torch.cat([log_precision, total])  # (2^(m+1), B, K)
    return Gaussian(mean[1:], -log_precision[1:])
