"""What every penalty is: from the posteriors of a minibatch to one number that the loss pays for.

A penalty reads posteriors and draws of z, never the measurements. Only what a cell has may matter: where
a modality is absent its posterior is N(0, I) and says nothing of the cell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from multiomics_vae.data.minibatch import Covariates
from multiomics_vae.data.share import StepNoise
from multiomics_vae.distributions import Gaussian, GaussianMixture


@dataclass(frozen=True)
class PenaltyInput:
    """What is known of B cells after inference.

    Parameters
    ----------
    joint
        q(z | x) given all that each cell has.
    z
        A draw from each component of ``joint``, ``(C, B, K)``, weighted by ``joint.log_weights.exp()``.
    singles
        q(z | x_m) of each modality alone, by the model's fusion rule, ``(M, B, K)``; a mixture is
        replaced by the Gaussian with its moments.
    single_z
        A draw from each of ``singles``, ``(M, B, K)``.
    present
        Which cell has which modality, ``(B, M)``, bool.
    covariates
        Batch and further covariates.
    noise
        The only source of randomness. Its numbers are drawn for the whole training step, so processes that
        share a step stay in one state; call it as often whatever the cells are.
    strata
        Group of each cell within which a penalty against covariates looks, ``(B,)``, int64, -1 where it is
        not known; None where there are no groups.
    """

    joint: GaussianMixture
    z: Tensor
    singles: Gaussian
    single_z: Tensor
    present: Tensor
    covariates: Covariates
    noise: StepNoise
    strata: Tensor | None = None


@dataclass(frozen=True)
class Nuisance:
    """A categorical covariate whose trace is to leave z.

    Parameters
    ----------
    column
        Its column among the further categorical covariates; None for the batch.
    n_categories
        How many it has.
    """

    column: int | None
    n_categories: int

    def codes(self, covariates: Covariates) -> Tensor:
        """Category of each cell, ``(B,)``, int64."""
        return covariates.batch if self.column is None else covariates.categorical[:, self.column]


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What a penalty against covariates is told of the data before it sees a cell.

    Parameters
    ----------
    nuisances
        Covariates whose trace is to leave z, with two or more categories each.
    n_strata
        Number of groups of `PenaltyInput.strata`.
    log_shares
        Of each covariate, the log of the share of its categories in every stratum, the last row in the cells
        of unknown stratum, ``(n_strata + 1, n_categories)``; empty where nobody has counted.
    """

    nuisances: tuple[Nuisance, ...] = ()
    n_strata: int = 0
    log_shares: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class PenaltyValue:
    """What a penalty answers.

    Parameters
    ----------
    mean
        Average over the cells that it concerns, a scalar; 0 where it concerns none.
    n_counted
        How many cells that are, a scalar, int64.
    """

    mean: Tensor
    n_counted: Tensor


class Penalty(nn.Module, ABC):
    """Abstract; one subclass a file.

    Parameters and buffers live as long as a training: they are optimised with the model, kept with the state
    of a run, and not saved with the model.

    Class attributes
    ----------------
    name
        Key in the registry, and name of the term in the history.
    compares_cells
        True if a cell's value depends on the cells beside it. Such a penalty sees only the own cells of a
        process: of several devices each compares within its part of a step.
    ramped
        True if its weight rises with β, from nothing to all of it over the warm-up.
    reverses
        True if the model is to raise the value: what reaches the posteriors is minus its gradient.
    default_weight
        Weight in the loss where a user names none.

    Parameters
    ----------
    n_latent, n_modalities, n_batches
        K, M and the number of registered batches.
    """

    name: ClassVar[str]
    compares_cells: ClassVar[bool]
    ramped: ClassVar[bool] = False
    reverses: ClassVar[bool] = False
    default_weight: ClassVar[float] = 1.0

    def __init__(self, n_latent: int, n_modalities: int, n_batches: int) -> None:
        super().__init__()
        self.n_latent = n_latent
        self.n_modalities = n_modalities
        self.n_batches = n_batches

    @abstractmethod
    def forward(self, found: PenaltyInput) -> PenaltyValue:
        """Evaluate the penalty."""
