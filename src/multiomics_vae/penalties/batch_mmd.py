"""Maximum mean discrepancy between the batches."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from multiomics_vae.penalties.base import PenaltyInput, PenaltyValue
from multiomics_vae.penalties.nuisance import NuisancePenalty, gaussian_kernels, mean_over_strata

FEWEST_CELLS = 2


class BatchDiscrepancy(NuisancePenalty):
    """Let the cells of every batch lie where those of the others lie.

    MMD²(a, b) = E k(z, z') + E k(w, w') − 2 E k(z, w) for the means z, z' of cells of category a and w, w' of
    category b (Gretton et al. 2012), with k the mean over s of exp(−‖z − w‖² / (2 s K)), s = ¼, ½, 1, 2, 4;
    over pairs of different cells, which is unbiased and can be below 0. Pairs of categories with two cells or
    more each are averaged by n_a n_b, so that small batches, whose estimates are mostly noise, count for
    little. Averaged over covariates, and over strata by their cells.

    Parameters
    ----------
    n_latent, n_modalities, n_batches, surroundings
        As for every penalty against covariates.

    Examples
    --------
    >>> BatchDiscrepancy(n_latent=10, n_modalities=2, n_batches=3).scales
    (0.25, 0.5, 1.0, 2.0, 4.0)
    """

    name: ClassVar[str] = "batch_mmd"
    compares_cells: ClassVar[bool] = True
    default_weight: ClassVar[float] = 100.0
    scales: ClassVar[tuple[float, ...]] = (0.25, 0.5, 1.0, 2.0, 4.0)

    def forward(self, found: PenaltyInput) -> PenaltyValue:
        """Average over pairs of categories, covariates and strata."""
        return mean_over_strata(found, self.surroundings.nuisances, self._of_cells)

    def _of_cells(self, z: Tensor, codes: Tensor, n_categories: int) -> tuple[Tensor, int]:
        kernel = gaussian_kernels(z, self.scales)
        one_hot = functional.one_hot(codes, n_categories).to(z.dtype)  # (n, G)
        counts = one_hot.sum(0)  # (G,)
        enough = counts >= FEWEST_CELLS  # (G,)
        if int(enough.sum()) < 2:
            return z.new_zeros(()), 0
        counts, one_hot = counts[enough], one_hot[:, enough]
        sums = one_hot.T @ (kernel - torch.diag(torch.diagonal(kernel))) @ one_hot  # (G, G)
        within = torch.diagonal(sums) / (counts * (counts - 1))  # (G,)
        across = sums / torch.outer(counts, counts)  # (G, G)
        discrepancy = within.unsqueeze(1) + within.unsqueeze(0) - 2.0 * across  # (G, G)
        weights = torch.outer(counts, counts).triu(1)  # (G, G)
        return (weights * discrepancy).sum() / weights.sum(), int(counts.sum())
