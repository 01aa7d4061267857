"""One of two categories."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multiomics_vae.data.schema import OutcomeKind, OutcomeSchema
from multiomics_vae.heads.base import ClassHead
from multiomics_vae.heads.head import Head


class Binary(ClassHead):
    """log p(yes) / p(no) = a + b·h.

    Parameters
    ----------
    n_inputs, outcome, head
        As in `OutcomeHead`.

    Examples
    --------
    >>> outcome = OutcomeSchema("response", "binary", ("response",), ("no", "yes"))
    >>> Binary(4, outcome, Head()).log_probabilities(torch.zeros(1, 1)).exp()
    tensor([[0.5000, 0.5000]])
    """

    name: ClassVar[str] = "binary"
    serves: ClassVar[tuple[OutcomeKind, ...]] = ("binary",)

    def __init__(self, n_inputs: int, outcome: OutcomeSchema, head: Head) -> None:
        super().__init__(n_inputs, outcome, head)
        self.linear = nn.Linear(n_inputs, 1)

    @property
    def n_scores(self) -> int:
        return 1

    def forward(self, features: Tensor) -> Tensor:
        logit: Tensor = self.linear(features)  # (..., G, 1)
        return logit

    def start_from(self, labels: Tensor) -> None:
        share = self.frequencies(labels)[1]
        self.linear.bias.copy_(share.logit())

    def log_probabilities(self, scores: Tensor) -> Tensor:
        return torch.cat([F.logsigmoid(-scores), F.logsigmoid(scores)], dim=-1)  # (..., G, 2)
