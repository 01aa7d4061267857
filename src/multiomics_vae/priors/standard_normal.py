"""The standard normal prior."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.priors.base import InferFromFeatures, Prior


class StandardNormal(Prior):
    """p(z) = N(0, I), the prior of the plain VAE (Kingma & Welling 2014). It has no parameters.

    Parameters
    ----------
    n_latent
        K.
    n_modalities, n_hidden, n_components
        Ignored; the prior has one component.

    Examples
    --------
    >>> prior = StandardNormal(n_latent=10, n_modalities=2, n_hidden=64, n_components=50)
    >>> prior.n_components
    1
    """

    name: ClassVar[str] = "standard_normal"
    has_components = False
    origin: Tensor

    def __init__(self, n_latent: int, n_modalities: int, n_hidden: int, n_components: int) -> None:
        super().__init__(n_latent, n_modalities, n_hidden, n_components)
        self.register_buffer("origin", torch.zeros(1, 1, n_latent), persistent=False)  # (1, 1, K)

    def forward(self, infer: InferFromFeatures) -> GaussianMixture:
        """N(0, I) as a mixture of one component; ``infer`` is not called."""
        return GaussianMixture(Gaussian(self.origin, self.origin), self.origin[..., 0])
