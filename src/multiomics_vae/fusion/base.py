"""What every fusion rule is: from the experts of the modalities that are present to one posterior.

A rule sees experts of all M modalities stacked, the hidden features that the encoders made, and the
mask of what may be used. It must give N(0, I) for a cell with nothing available, and must not read
the experts or features of a modality that is masked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor, nn

from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.errors import InputError
from multiomics_vae.fusion.disagreement import DisagreementGate

Subset = tuple[int, ...]


@dataclass(frozen=True)
class Evidence:
    """What the encoders found in B cells.

    Parameters
    ----------
    experts
        q_m(z | x_m) for every modality, ``(M, B, K)``; arbitrary finite values where absent.
    features
        Last hidden layer of each encoder, ``(M, B, H)``; zeros where absent.
    available
        Which modality of which cell may be used, ``(B, M)``, bool.
    """

    experts: Gaussian
    features: Tensor
    available: Tensor


@dataclass(frozen=True)
class Fused:
    """What a fusion rule answers.

    Parameters
    ----------
    posterior
        q(z | x_A), a mixture of one or more Gaussians for each cell.
    weights
        How much each of the rule's ``experts`` counted, ``(E, B)``; sums to 1 over E.
    """

    posterior: GaussianMixture
    weights: Tensor


class FusionRule(nn.Module, ABC):
    """Abstract; one subclass a file.

    Class attributes
    ----------------
    name
        Key in the registry.
    robust_to_missing
        False for a rule that was never meant to work with a modality missing.
    can_gate_disagreement
        True for a rule that reads ``disagreement_gate``, by which experts that disagree lose weight.

    Parameters
    ----------
    n_modalities, n_latent, n_hidden
        M, K and H of `Evidence`.
    """

    name: ClassVar[str]
    robust_to_missing: ClassVar[bool] = True
    can_gate_disagreement: ClassVar[bool] = False

    def __init__(self, n_modalities: int, n_latent: int, n_hidden: int) -> None:
        super().__init__()
        self.n_modalities = n_modalities
        self.n_latent = n_latent
        self.n_hidden = n_hidden
        self.disagreement_gate: DisagreementGate | None = None

    def with_disagreement_gate(self) -> Self:
        """Let experts that disagree by more than their variances allow lose weight from now on.

        Raises
        ------
        InputError
            If the rule cannot.
        """
        if not self.can_gate_disagreement:
            raise InputError(
                f"fusion={self.name!r} has no disagreement gate. Write fusion='product' or "
                "fusion='gated', or disagreement_gate=False."
            )
        self.disagreement_gate = DisagreementGate(self.n_latent)
        return self

    @property
    @abstractmethod
    def experts(self) -> tuple[Subset, ...]:
        """The subset of modalities that each row of ``Fused.weights`` stands for; () is the prior."""

    @abstractmethod
    def forward(self, evidence: Evidence) -> Fused:
        """Fuse what is available."""
