"""A real number."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from multiomics_vae.data.schema import OutcomeKind, OutcomeSchema
from multiomics_vae.heads.base import NumberHead
from multiomics_vae.heads.head import Head


class Continuous(NumberHead):
    """y ~ N(a + b·h, σ²), of the standardised outcome; σ is learned, the same for all.

    Parameters
    ----------
    n_inputs, outcome, head
        As in `OutcomeHead`.

    Examples
    --------
    >>> head = Continuous(4, OutcomeSchema("age", "continuous", ("age",), mean=40.0, sd=12.0), Head())
    >>> float(head.mean_and_sd(torch.zeros(1, 1))[1])
    1.0
    """

    name: ClassVar[str] = "continuous"
    serves: ClassVar[tuple[OutcomeKind, ...]] = ("continuous",)

    def __init__(self, n_inputs: int, outcome: OutcomeSchema, head: Head) -> None:
        super().__init__(n_inputs, outcome, head)
        self.linear = nn.Linear(n_inputs, 1)
        self.log_sd = nn.Parameter(torch.zeros(()))

    @property
    def n_scores(self) -> int:
        return 1

    def forward(self, features: Tensor) -> Tensor:
        mean: Tensor = self.linear(features)  # (..., G, 1)
        return mean

    def mean_and_sd(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        mean = scores[..., 0]
        return mean, self.log_sd.exp().expand_as(mean)

    def negative_log_likelihood(self, scores: Tensor, labels: Tensor) -> Tensor:
        """½ ((y − μ) / σ)² + log σ + ½ log 2π."""
        there = ~labels[:, 0].isnan()
        mean, _ = self.mean_and_sd(scores)
        residual = (labels[:, 0].nan_to_num() - mean) * (-self.log_sd).exp()
        cost = 0.5 * residual.square() + self.log_sd + 0.5 * math.log(2.0 * math.pi)
        return torch.where(there, cost, 0.0)
