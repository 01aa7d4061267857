"""Contrastive alignment by triplets with a margin."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from multiomics_vae.penalties.pairs import PairPenalty


class Triplet(PairPenalty):
    """Let the two means of a cell be closer than the means of two cells, by a margin.

    For cell i, modalities a and b, the mean over every other cell j of the minibatch that has both of
    max(0, margin + D(a_i, b_i) − D(a_i, b_j)), and the same with a and b exchanged, halved
    (Schroff et al. 2015); D = ‖μ − ν‖² / K, a squared distance a latent dimension.

    Every other cell is a negative: the expectation over a negative drawn at random, without the draw. The
    hardest negative is not taken, because it is nearly always a cell of the same type, which has no reason
    to be far away.

    Parameters
    ----------
    n_latent, n_modalities, n_batches
        Ignored.

    Examples
    --------
    >>> Triplet(n_latent=10, n_modalities=2, n_batches=1).margin
    0.5
    """

    name: ClassVar[str] = "triplet"
    margin: ClassVar[float] = 0.5

    def each(self, first: Tensor, second: Tensor) -> Tensor:
        distance = (first.unsqueeze(1) - second.unsqueeze(0)).square().mean(-1)  # (n, n)
        own = torch.diagonal(distance)  # (n,)
        itself = torch.eye(len(own), dtype=torch.bool, device=own.device)  # (n, n)
        of_first = (self.margin + own.unsqueeze(1) - distance).clamp(min=0.0)  # (n, n)
        of_second = (self.margin + own.unsqueeze(0) - distance).clamp(min=0.0)  # (n, n)
        first_sum = of_first.masked_fill(itself, 0.0).sum(1)  # (n,)
        second_sum = of_second.masked_fill(itself, 0.0).sum(0)  # (n,)
        return 0.5 * (first_sum + second_sum) / (len(own) - 1)  # (n,)
