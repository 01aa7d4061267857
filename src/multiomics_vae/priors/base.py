"""What every prior p(z) is: a mixture of diagonal Gaussians, shared by all cells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from multiomics_vae.distributions import GaussianMixture

InferFromFeatures = Callable[[Tensor], GaussianMixture]
"""From hidden features ``(M, C, H)`` of C imagined, complete cells to their fused posteriors."""


class Prior(nn.Module, ABC):
    """Abstract; one subclass a file.

    Parameters
    ----------
    n_latent
        K.
    n_modalities, n_hidden
        M and H: shape of the hidden features, for a prior that imagines cells.
    n_components
        Number of components or pseudo-inputs; ignored by a prior of one component.
    """

    name: ClassVar[str]

    def __init__(self, n_latent: int, n_modalities: int, n_hidden: int, n_components: int) -> None:
        super().__init__()
        self.n_latent = n_latent
        self.n_modalities = n_modalities
        self.n_hidden = n_hidden
        self.n_components = n_components

    @abstractmethod
    def forward(self, infer: InferFromFeatures) -> GaussianMixture:
        """The prior as a mixture over one cell, components of shape ``(C, 1, K)``, to be broadcast.

        Parameters
        ----------
        infer
            The model's own inference from hidden features; used by the VampPrior.
        """
