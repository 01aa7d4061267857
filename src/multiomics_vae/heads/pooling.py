"""From the cells of a donor to the donor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn


class Pooling(nn.Module, ABC):
    """Weighs cells; a donor's features are the weighted average of its cells'.

    Parameters
    ----------
    n_inputs
        H.
    """

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.n_inputs = n_inputs

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Log weights of cells, before they are made to add up to 1 in each donor: ``(..., B)``."""


class MeanPooling(Pooling):
    """Every cell counts the same."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.zeros_like(features[..., 0])


class GatedAttention(Pooling):
    """log a_i = w·(tanh(V h_i) ⊙ σ(U h_i)), made to add up to 1 in each donor (Ilse et al. 2018).

    w starts at 0, so that a training starts with the mean.
    """

    def __init__(self, n_inputs: int) -> None:
        super().__init__(n_inputs)
        self.content = nn.Linear(n_inputs, n_inputs)
        self.gate = nn.Linear(n_inputs, n_inputs)
        self.weight = nn.Linear(n_inputs, 1, bias=False)
        nn.init.zeros_(self.weight.weight)

    def forward(self, features: Tensor) -> Tensor:
        gated = torch.tanh(self.content(features)) * torch.sigmoid(self.gate(features))
        log_weights: Tensor = self.weight(gated)[..., 0]  # (..., B)
        return log_weights


POOLINGS: Mapping[str, type[Pooling]] = MappingProxyType({"attention": GatedAttention, "mean": MeanPooling})


def pool(features: Tensor, log_weights: Tensor, group: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    """Weighted averages within groups.

    Parameters
    ----------
    features, log_weights
        ``(I, H)`` and ``(I,)``; −inf leaves a row out.
    group
        Of each row, ``(I,)``, below ``n_groups``; every group has a row that is not left out.

    Returns
    -------
    tuple of Tensor
        Averages ``(n_groups, H)``, and the weights ``(I,)``, which add up to 1 in each group.
    """
    highest = log_weights.new_full((n_groups,), -torch.inf)
    highest = highest.scatter_reduce(0, group, log_weights.detach(), "amax")
    weights = (log_weights - highest[group]).exp()
    total = weights.new_zeros(n_groups).index_add(0, group, weights)
    weights = weights / total[group]
    pooled = features.new_zeros(n_groups, features.shape[-1])
    return pooled.index_add(0, group, weights[:, None] * features), weights
