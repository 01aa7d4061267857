"""A learned mixture of Gaussians as the prior."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import nn

from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.priors.base import InferFromFeatures, Prior

START_VARIANCE = 0.5


class GaussianMixturePrior(Prior):
    """p(z) = Σ_c π_c N(z; μ_c, σ_c²) with learned π, μ and σ² (e.g. VaDE, Jiang et al. 2017).

    It starts near N(0, I) in its first two moments: half of the variance is within the components and
    about half between their means, which are centred; the weights start equal. The start uses torch's global
    generator, as every torch layer does: a model is built inside ``torch.random.fork_rng``.

    Parameters
    ----------
    n_latent
        K.
    n_modalities, n_hidden
        Ignored.
    n_components
        C, at least 1.

    Raises
    ------
    InputError
        If C < 1.

    Examples
    --------
    >>> prior = GaussianMixturePrior(n_latent=10, n_modalities=2, n_hidden=64, n_components=50)
    >>> prior.means.shape
    torch.Size([50, 10])
    """

    name: ClassVar[str] = "gaussian_mixture"

    def __init__(self, n_latent: int, n_modalities: int, n_hidden: int, n_components: int) -> None:
        super().__init__(n_latent, n_modalities, n_hidden, n_components)
        spread = math.sqrt(1.0 - START_VARIANCE) * torch.randn(n_components, n_latent)  # (C, K)
        self.logits = nn.Parameter(torch.zeros(n_components))  # (C,)
        self.means = nn.Parameter(spread - spread.mean(0))  # (C, K)
        self.log_variances = nn.Parameter(torch.full_like(spread, math.log(START_VARIANCE)))  # (C, K)

    def forward(self, infer: InferFromFeatures) -> GaussianMixture:
        """The mixture over one cell, ``(C, 1, K)``; ``infer`` is not called."""
        components = Gaussian(self.means.unsqueeze(1), self.log_variances.unsqueeze(1))  # (C, 1, K)
        return GaussianMixture(components, self.logits.log_softmax(0).unsqueeze(1))
