"""One of several categories without an order."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from multiomics_vae.data.schema import OutcomeKind, OutcomeSchema
from multiomics_vae.heads.base import ClassHead
from multiomics_vae.heads.head import Head


class Categorical(ClassHead):
    """p(y = q) ∝ exp(a_q + b_q·h).

    Parameters
    ----------
    n_inputs, outcome, head
        As in `OutcomeHead`.

    Examples
    --------
    >>> Categorical(4, OutcomeSchema("type", "categorical", ("type",), ("B", "NK", "T")), Head()).n_scores
    3
    """

    name: ClassVar[str] = "categorical"
    serves: ClassVar[tuple[OutcomeKind, ...]] = ("categorical", "ordinal", "binary")

    def __init__(self, n_inputs: int, outcome: OutcomeSchema, head: Head) -> None:
        super().__init__(n_inputs, outcome, head)
        self.linear = nn.Linear(n_inputs, len(outcome.categories))

    @property
    def n_scores(self) -> int:
        return len(self.outcome.categories)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)  # (..., G, Q)
        return logits

    def start_from(self, labels: Tensor) -> None:
        self.linear.bias.copy_(self.frequencies(labels).log())

    def log_probabilities(self, scores: Tensor) -> Tensor:
        return F.log_softmax(scores, dim=-1)  # (..., G, Q)
