"""Early fusion by concatenation."""

from __future__ import annotations

from typing import ClassVar

import torch

from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.fusion.base import Evidence, Fused, FusionRule, Subset
from multiomics_vae.fusion.expert_network import ExpertNetwork
from multiomics_vae.fusion.reading import available_features, check_evidence


class Concatenation(FusionRule):
    """One network on the hidden features of all modalities, side by side: early fusion.

    q(z | x) = N(μ(h, a), σ²(h, a)), h the concatenated features with zeros for a masked modality and a
    the mask. The experts of the single modalities are not read. It is meant for complete cells and for
    comparison: what it answers for an incomplete cell depends on which patterns it was trained on.

    The weights have two rows: () is 1 where nothing is available, which gives N(0, I); the set of all
    modalities is 1 elsewhere, also where only some of them are available.

    Parameters
    ----------
    n_modalities, n_latent, n_hidden
        M, K and H of `Evidence`; H is also the width of the hidden layer.

    Examples
    --------
    >>> Concatenation(n_modalities=2, n_latent=10, n_hidden=64).experts
    ((), (0, 1))
    """

    name: ClassVar[str] = "concatenation"
    robust_to_missing: ClassVar[bool] = False

    def __init__(self, n_modalities: int, n_latent: int, n_hidden: int) -> None:
        super().__init__(n_modalities, n_latent, n_hidden)
        self.network = ExpertNetwork(n_modalities * (n_hidden + 1), n_hidden, n_latent)

    @property
    def experts(self) -> tuple[Subset, ...]:
        return ((), tuple(range(self.n_modalities)))

    def forward(self, evidence: Evidence) -> Fused:
        """Read all features at once."""
        check_evidence(evidence, self)
        features = available_features(evidence)  # (M, B, H)
        dtype = evidence.experts.mean.dtype
        inputs = torch.cat([*features, evidence.available.to(features.dtype)], dim=-1)  # (B, M H + M)
        joint = self.network(inputs)  # (B, K)
        nothing = ~evidence.available.any(1)  # (B,)
        posterior = Gaussian(
            joint.mean.to(dtype).masked_fill(nothing.unsqueeze(-1), 0.0),
            joint.log_variance.to(dtype).masked_fill(nothing.unsqueeze(-1), 0.0),
        )
        weights = torch.stack([nothing, ~nothing]).to(dtype)  # (2, B)
        return Fused(GaussianMixture.single(posterior), weights)
