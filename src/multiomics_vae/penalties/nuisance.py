"""Penalties against covariates: what they share."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from multiomics_vae.penalties.base import Nuisance, Penalty, PenaltyInput, PenaltyValue, Surroundings


class NuisancePenalty(Penalty, ABC):
    """Abstract: makes z tell as little as may be of some categorical covariates.

    It reads the mean of q(z | x), which is what an embedding shows of a cell, of the cells that have
    anything. With strata it asks for independence within each of them, so that z may know the covariate as
    far as the stratum tells it: types that are more frequent in one batch stay where they are.

    Parameters
    ----------
    n_latent, n_modalities, n_batches
        K, M and the number of registered batches.
    surroundings
        Which covariates, and how many strata; None takes the batch alone and no strata.
    """

    ramped: ClassVar[bool] = True

    def __init__(
        self,
        n_latent: int,
        n_modalities: int,
        n_batches: int,
        surroundings: Surroundings | None = None,
    ) -> None:
        super().__init__(n_latent, n_modalities, n_batches)
        if surroundings is None:
            surroundings = Surroundings((Nuisance(None, n_batches),) if n_batches > 1 else ())
        self.surroundings = surroundings


def log_shares(codes: Tensor, n_categories: int, strata: Tensor | None, n_strata: int) -> Tensor:
    """Log share of each category in each stratum, the last row in cells of none: ``(n_strata + 1, G)``.

    Half a cell is added to every count, so that a category that a stratum lacks has no share of 0.

    Parameters
    ----------
    codes, n_categories
        Of each of n cells, ``(n,)``, and how many there are.
    strata, n_strata
        Of each cell, ``(n,)``, -1 where it is not known, and how many there are; None where all are one.
    """
    rows = torch.full_like(codes, n_strata) if strata is None else torch.where(strata < 0, n_strata, strata)
    counts = torch.full((n_strata + 1, n_categories), 0.5, dtype=torch.float64)
    counts.index_put_((rows, codes), torch.ones(len(codes), dtype=torch.float64), accumulate=True)
    return (counts / counts.sum(1, keepdim=True)).log()


def means_of(found: PenaltyInput) -> tuple[Tensor, Tensor]:
    """Mean of q(z | x) of the n cells that have anything, ``(n, K)``, and which they are, ``(B,)``, bool."""
    seen = found.present.any(1)  # (B,)
    return found.joint.mean[seen], seen


def mean_over_strata(
    found: PenaltyInput,
    nuisances: tuple[Nuisance, ...],
    value: Callable[[Tensor, Tensor, int], tuple[Tensor, int]],
) -> PenaltyValue:
    """Average a measure of dependence over strata, by their cells, and over covariates.

    Cells of unknown stratum make up one more. Without strata all cells are one.

    Parameters
    ----------
    found
        What was inferred.
    nuisances
        The covariates.
    value
        From the means ``(n, K)``, the codes ``(n,)`` and the number of categories to the measure and the
        number of cells it speaks of; 0 where there are too few.
    """
    z, seen = means_of(found)
    strata = torch.zeros_like(found.covariates.batch) if found.strata is None else found.strata
    strata = strata[seen]  # (n,)
    total, counted = z.new_zeros(()), 0
    for nuisance in nuisances:
        codes = nuisance.codes(found.covariates)[seen]  # (n,)
        for stratum in torch.unique(strata):  # type: ignore[no-untyped-call]
            inside = strata == stratum  # (n,)
            measured, n_cells = value(z[inside], codes[inside], nuisance.n_categories)
            total, counted = total + n_cells * measured, counted + n_cells
    mean = total / counted if counted else found.z.new_zeros(())
    n_counted = torch.tensor(counted // max(1, len(nuisances)), device=seen.device)
    return PenaltyValue(mean, n_counted)


def gaussian_kernels(z: Tensor, scales: tuple[float, ...]) -> Tensor:
    """Mean over s of exp(−‖z_i − z_j‖² / (2 s K)), ``(n, n)``."""
    squared = (z.unsqueeze(1) - z.unsqueeze(0)).square().mean(-1)  # (n, n)
    return torch.stack([(-0.5 / s * squared).exp() for s in scales]).mean(0)
