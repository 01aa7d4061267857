"""Hilbert-Schmidt independence of z and the batch."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from multiomics_vae.penalties.base import PenaltyInput, PenaltyValue
from multiomics_vae.penalties.nuisance import NuisancePenalty, gaussian_kernels, mean_over_strata

FEWEST_CELLS = 4


class HilbertSchmidt(NuisancePenalty):
    """HSIC of E[z | x] and each covariate: 0 exactly where they are independent.

    HSIC = E k l + E k E l − 2 E_i [E_j k E_j l] (Gretton et al. 2005), with k the mean of Gaussian kernels,
    mean over s of exp(−‖z − z'‖² / (2 s K)), s = ¼, ½, 1, 2, 4, and l = 1 for two cells of one category, 0
    otherwise. With K̃ and L̃ the kernel matrices of n cells without their diagonals, estimated by

        [tr K̃L̃ + (1ᵀK̃1)(1ᵀL̃1) / ((n−1)(n−2)) − 2 (1ᵀK̃L̃1) / (n−2)] / (n (n−3)),

    which is unbiased (Song et al. 2012): its mean over all permutations of the cells' categories is 0. It can
    be below 0, and needs four cells. For two batches of shares p and 1 − p, HSIC = 2 p² (1−p)² MMD². Averaged
    over covariates, and over strata by their cells.

    Parameters
    ----------
    n_latent, n_modalities, n_batches, surroundings
        As for every penalty against covariates.

    Examples
    --------
    >>> HilbertSchmidt(n_latent=10, n_modalities=2, n_batches=3).ramped
    True
    """

    name: ClassVar[str] = "hsic"
    compares_cells: ClassVar[bool] = True
    default_weight: ClassVar[float] = 1000.0
    scales: ClassVar[tuple[float, ...]] = (0.25, 0.5, 1.0, 2.0, 4.0)

    def forward(self, found: PenaltyInput) -> PenaltyValue:
        """Average over covariates and strata."""
        return mean_over_strata(found, self.surroundings.nuisances, self._of_cells)

    def _of_cells(self, z: Tensor, codes: Tensor, n_categories: int) -> tuple[Tensor, int]:
        n = len(z)
        if n < FEWEST_CELLS:
            return z.new_zeros(()), 0
        kernel = gaussian_kernels(z, self.scales)
        kernel = kernel - torch.diag(torch.diagonal(kernel))  # (n, n)
        one_hot = functional.one_hot(codes, n_categories).to(z.dtype)  # (n, G)
        same = one_hot @ one_hot.T
        same = same - torch.diag(torch.diagonal(same))  # (n, n)
        joint = (kernel * same).sum()
        apart = kernel.sum() * same.sum() / ((n - 1) * (n - 2))
        crossed = (kernel.sum(1) * same.sum(1)).sum() / (n - 2)
        return (joint + apart - 2.0 * crossed) / (n * (n - 3)), n
