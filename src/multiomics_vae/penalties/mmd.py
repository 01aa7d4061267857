"""Maximum mean discrepancy between the modalities."""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor

from multiomics_vae.penalties.base import Penalty, PenaltyInput, PenaltyValue


class MaximumMeanDiscrepancy(Penalty):
    """Let the cells seen in one modality lie where the cells seen in another lie.

    MMD²(a, b) = E k(z, z') + E k(w, w') − 2 E k(z, w) for draws z ~ q(z | x_a) and w ~ q(z | x_b) of the
    cells that have a, and those that have b (Gretton et al. 2012), averaged over pairs of modalities, with
    k(z, w) = mean over s of exp(−‖z − w‖² / (2 s K)), s = ¼, ½, 1, 2, 4. Under the prior ‖z − w‖² is about
    2 K, so the kernels are neither flat nor blind whatever K is.

    Every expectation is the average over pairs of different cells, which is unbiased, also where cells
    have both modalities; it can be below 0. No cell needs a second modality, but the cells of the two
    modalities must be of the same population: of a mosaic in which one modality was measured in other
    tissue, this penalty would remove the difference. With several devices each process compares its
    own cells only.

    Parameters
    ----------
    n_latent, n_modalities, n_batches
        K; the others are ignored.

    Examples
    --------
    >>> MaximumMeanDiscrepancy(n_latent=10, n_modalities=2, n_batches=1).scales
    (0.25, 0.5, 1.0, 2.0, 4.0)
    """

    name: ClassVar[str] = "mmd"
    compares_cells: ClassVar[bool] = True
    scales: ClassVar[tuple[float, ...]] = (0.25, 0.5, 1.0, 2.0, 4.0)

    def forward(self, found: PenaltyInput) -> PenaltyValue:
        """Average over pairs of modalities; it concerns every cell that has one of a pair."""
        present = found.present
        values, counted = [], torch.zeros_like(present[:, 0])  # (B,)
        for a, b in combinations(range(present.shape[1]), 2):
            in_a, in_b = present[:, a], present[:, b]  # (B,)
            if min(int(in_a.sum()), int(in_b.sum())) >= 2:
                values.append(self._discrepancy(found.single_z[a], found.single_z[b], in_a, in_b))
                counted = counted | in_a | in_b
        mean = torch.stack(values).mean() if values else found.single_z.new_zeros(())
        return PenaltyValue(mean, counted.sum())

    def _discrepancy(self, first: Tensor, second: Tensor, in_first: Tensor, in_second: Tensor) -> Tensor:
        own = self._mean_kernel(first, first, in_first, in_first)
        own = own + self._mean_kernel(second, second, in_second, in_second)
        return own - 2.0 * self._mean_kernel(first, second, in_first, in_second)

    def _mean_kernel(self, z: Tensor, w: Tensor, in_z: Tensor, in_w: Tensor) -> Tensor:
        """Average of k over pairs of different cells."""
        cells_z, cells_w = in_z.nonzero().squeeze(1), in_w.nonzero().squeeze(1)
        squared = (z[cells_z].unsqueeze(1) - w[cells_w].unsqueeze(0)).square().mean(-1)  # (n, m)
        kernel = torch.stack([(-0.5 / s * squared).exp() for s in self.scales]).mean(0)  # (n, m)
        different = cells_z.unsqueeze(1) != cells_w.unsqueeze(0)  # (n, m)
        return (kernel * different).sum() / different.sum()
