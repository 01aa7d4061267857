"""Pairs of modalities, and the cells that have both."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from multiomics_vae.penalties.base import PenaltyInput, PenaltyValue

FEWEST_CELLS = 2


def mean_over_pairs(found: PenaltyInput, value: Callable[[Tensor, Tensor], Tensor]) -> PenaltyValue:
    """Average a comparison of unimodal posterior means over pairs of modalities and cells that have both.

    Parameters
    ----------
    found
        What was inferred.
    value
        From the means of n cells in two modalities, ``(n, K)`` each and in the same order, to a value for
        each cell, ``(n,)``. It is not asked about fewer than two cells, which nothing can be told apart from.
    """
    means, present = found.singles.mean, found.present
    values, counted = [], torch.zeros_like(present[:, 0])  # (B,)
    for a, b in combinations(range(present.shape[1]), 2):
        both = present[:, a] & present[:, b]  # (B,)
        if int(both.sum()) >= FEWEST_CELLS:
            values.append(value(means[a, both], means[b, both]))
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
