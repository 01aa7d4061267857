"""Pairs of modalities, and the cells that have both."""

from __future__ import annotations

from abc import abstractmethod
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor

from multiomics_vae.penalties.base import Penalty, PenaltyInput, PenaltyValue

FEWEST_CELLS = 2


class PairPenalty(Penalty):
    """Compares the unimodal posterior means of cells that have two modalities, within a minibatch; abstract.

    Its mean is over cells and pairs of modalities. Cells without a second modality carry no term, and with
    several devices a cell is compared with the cells of its own process only.
    """

    compares_cells: ClassVar[bool] = True

    @abstractmethod
    def each(self, first: Tensor, second: Tensor) -> Tensor:
        """Value of n cells, ``(n,)``, from their means in two modalities, ``(n, K)`` each, in the same order.

        It is not asked about fewer than two cells, which nothing can be told apart from.
        """

    def forward(self, found: PenaltyInput) -> PenaltyValue:
        """Average over cells and pairs of modalities."""
        means, present = found.singles.mean, found.present
        values, counted = [], torch.zeros_like(present[:, 0])  # (B,)
        for a, b in combinations(range(present.shape[1]), 2):
            both = present[:, a] & present[:, b]  # (B,)
            if int(both.sum()) >= FEWEST_CELLS:
                values.append(self.each(means[a, both], means[b, both]))
                counted = counted | both
        mean = torch.cat(values).mean() if values else means.new_zeros(())
        return PenaltyValue(mean, counted.sum())


def recognition_cost(similarity: Tensor) -> Tensor:
    """Mean of the cross entropies with which each of n cells is recognised in the other modality, both ways.

    Parameters
    ----------
    similarity
        Of cell i in one modality and cell j in the other, ``(n, n)``.

    Returns
    -------
    Tensor
        −½ (log softmax_j(s_ij) + log softmax_j(s_ji)) at j = i, ``(n,)``, nats; log n where all are alike.
    """
    forth, back = similarity.log_softmax(1), similarity.log_softmax(0)  # (n, n)
    return -0.5 * torch.diagonal(forth + back)  # (n,)
