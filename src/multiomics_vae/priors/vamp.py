"""The VampPrior."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import nn

from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.priors.base import InferFromFeatures, Prior


class VampPrior(Prior):
    """p(z) = (1 / C) Σ_c q(z | u_c), the posteriors of C learned imagined cells (Tomczak & Welling 2018).

    The pseudo-inputs u live in the space of the encoders' hidden features and not of the data, so that
    100 000 peaks cost nothing. The weights are equal, as published. A posterior that is itself a mixture
    of L Gaussians gives C · L components.

    The start uses torch's global generator, as every torch layer does: a model is built inside
    ``torch.random.fork_rng``.

    Parameters
    ----------
    n_latent
        K.
    n_modalities, n_hidden
        M and H of the hidden features.
    n_components
        C, number of pseudo-inputs, at least 1.

    Raises
    ------
    InputError
        If C < 1.

    Examples
    --------
    >>> prior = VampPrior(n_latent=10, n_modalities=2, n_hidden=64, n_components=50)
    >>> prior.pseudo_features.shape
    torch.Size([2, 50, 64])
    """

    name: ClassVar[str] = "vamp"

    def __init__(self, n_latent: int, n_modalities: int, n_hidden: int, n_components: int) -> None:
        super().__init__(n_latent, n_modalities, n_hidden, n_components)
        self.pseudo_features = nn.Parameter(torch.randn(n_modalities, n_components, n_hidden))  # (M, C, H)

    def forward(self, infer: InferFromFeatures) -> GaussianMixture:
        """The average of the pseudo-inputs' posteriors over one cell, ``(L · C, 1, K)``."""
        posteriors = infer(self.pseudo_features)  # L components of C cells: (L, C, K)
        components = Gaussian(
            posteriors.components.mean.reshape(-1, 1, self.n_latent),  # (L C, 1, K)
            posteriors.components.log_variance.reshape(-1, 1, self.n_latent),  # (L C, 1, K)
        )
        log_weights = posteriors.log_weights.reshape(-1, 1) - math.log(self.n_components)  # (L C, 1)
        return GaussianMixture(components, log_weights)
