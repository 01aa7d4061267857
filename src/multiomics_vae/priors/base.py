"""What every prior p(z) is: a mixture of diagonal Gaussians, shared by all cells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from multiomics_vae.distributions import GaussianMixture
from multiomics_vae.errors import InputError

InferFromFeatures = Callable[[Tensor], GaussianMixture]
"""From hidden features ``(M, C, H)`` of C imagined, complete cells to their fused posteriors."""


class Prior(nn.Module, ABC):
    """Abstract; one subclass a file.

    Class attributes
    ----------------
    name
        Key in the registry.
    has_components
        False for a prior of one component, which ignores ``n_components``.

    Parameters
    ----------
    n_latent
        K.
    n_modalities, n_hidden
        M and H: shape of the hidden features, for a prior that imagines cells.
    n_components
        C, number of components or pseudo-inputs, at least 1; ignored by a prior of one component.

    Raises
    ------
    InputError
        If C < 1 where it counts.
    """

    name: ClassVar[str]
    has_components: ClassVar[bool] = True

    def __init__(self, n_latent: int, n_modalities: int, n_hidden: int, n_components: int) -> None:
        super().__init__()
        if self.has_components and n_components < 1:
            raise InputError(
                f"The prior {self.name!r} needs n_components of at least 1, not {n_components}. "
                "Write n_components=50, or prior='standard_normal' for none."
            )
        self.n_latent = n_latent
        self.n_modalities = n_modalities
        self.n_hidden = n_hidden
        self.n_components = n_components if self.has_components else 1

    @abstractmethod
    def forward(self, infer: InferFromFeatures) -> GaussianMixture:
        """The prior as a mixture over one cell, components of shape ``(C, 1, K)``, to be broadcast.

        Parameters
        ----------
        infer
            The model's own inference from hidden features; used by the VampPrior.
        """
