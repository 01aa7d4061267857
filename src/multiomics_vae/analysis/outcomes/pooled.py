"""Pooling of donors whose cells come a minibatch at a time, for several draws at once."""

from __future__ import annotations

import torch
from torch import Tensor


class PooledSums:
    """Weighted averages within groups, of which never more than a minibatch is in memory.

    The largest log weight of each group so far is taken out of its sums, so that nothing overflows.

    Parameters
    ----------
    n_draws, n_groups, n_features
        R, G and H.

    Examples
    --------
    >>> sums = PooledSums(1, 1, 1)
    >>> sums.add(torch.tensor([[[1.0], [3.0]]]), torch.zeros(1, 2), torch.tensor([0, 0]))
    >>> sums.averages()
    tensor([[[2.]]])
    """

    def __init__(self, n_draws: int, n_groups: int, n_features: int) -> None:
        self.highest = torch.full((n_draws, n_groups), -torch.inf, dtype=torch.float64)
        self.mass = torch.zeros(n_draws, n_groups, dtype=torch.float64)
        self.sums = torch.zeros(n_draws, n_groups, n_features, dtype=torch.float64)

    def add(self, features: Tensor, log_weights: Tensor, group: Tensor) -> None:
        """Take in ``(R, B, H)`` with ``(R, B)`` log weights; ``group`` is ``(B,)``."""
        features, log_weights, group = features.cpu().double(), log_weights.cpu().double(), group.cpu()
        at = group.expand(len(log_weights), -1)  # (R, B)
        highest = self.highest.scatter_reduce(1, at, log_weights, "amax")
        shrink = torch.where(self.highest > -torch.inf, (self.highest - highest).exp(), 0.0)
        weights = (log_weights - highest.gather(1, at)).exp()  # (R, B)
        self.mass = (self.mass * shrink).scatter_add(1, at, weights)
        self.sums = (self.sums * shrink[..., None]).index_add(1, group, weights[..., None] * features)
        self.highest = highest

    def averages(self) -> Tensor:
        """``(R, G, H)``, float32; NaN for a group without a row."""
        return (self.sums / self.mass[..., None]).float()

    def weights(self, log_weights: Tensor, group: Tensor, draw: int = 0) -> Tensor:
        """Weights of rows that were taken in, which add up to 1 in each group: ``(N,)``, float64."""
        return (log_weights.double() - self.highest[draw, group]).exp() / self.mass[draw, group]
