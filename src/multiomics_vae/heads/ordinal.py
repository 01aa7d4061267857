"""One of several categories in an order."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multiomics_vae.data.schema import OutcomeKind, OutcomeSchema
from multiomics_vae.heads.base import ClassHead
from multiomics_vae.heads.head import Head

START_GAP = 1.0


class Ordinal(ClassHead):
    """p(y ≤ q) = σ(c_q − b·h), the cumulative logit model (McCullagh 1980).

    The cut points c_0 < c_1 < … are ordered by construction: each is the one before it plus a softplus. The
    scores of a row are c_q − b·h for all q but the last.

    Parameters
    ----------
    n_inputs, outcome, head
        As in `OutcomeHead`.

    Examples
    --------
    >>> Ordinal(4, OutcomeSchema("stage", "ordinal", ("stage",), ("I", "II", "III")), Head()).n_scores
    2
    """

    name: ClassVar[str] = "ordinal"
    serves: ClassVar[tuple[OutcomeKind, ...]] = ("ordinal",)

    def __init__(self, n_inputs: int, outcome: OutcomeSchema, head: Head) -> None:
        super().__init__(n_inputs, outcome, head)
        n_gaps = len(outcome.categories) - 2
        self.linear = nn.Linear(n_inputs, 1, bias=False)
        self.first_cut = nn.Parameter(torch.tensor(-0.5 * n_gaps * START_GAP))
        self.raw_gaps = nn.Parameter(torch.full((n_gaps,), math.log(math.expm1(START_GAP))))

    @property
    def n_scores(self) -> int:
        return len(self.outcome.categories) - 1

    @property
    def cuts(self) -> Tensor:
        """Cut points, rising: ``(Q − 1,)``."""
        return self.first_cut + F.pad(F.softplus(self.raw_gaps).cumsum(0), (1, 0))

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.cuts - self.linear(features)
        return scores  # (..., G, Q − 1)

    def start_from(self, labels: Tensor) -> None:
        cuts = self.frequencies(labels).cumsum(0)[:-1].logit()  # (Q − 1,)
        self.first_cut.copy_(cuts[0])
        self.raw_gaps.copy_(torch.log(torch.expm1(cuts.diff())))

    def log_probabilities(self, scores: Tensor) -> Tensor:
        """Log [σ(s_q) − σ(s_{q−1})], as log σ(s_q) + log σ(−s_{q−1}) + log(1 − exp(s_{q−1} − s_q))."""
        below, above = F.logsigmoid(scores), F.logsigmoid(-scores)  # (..., G, Q − 1)
        gap = (scores[..., 1:] - scores[..., :-1]).clamp(min=1e-6)  # (..., G, Q − 2)
        between = below[..., 1:] + above[..., :-1] + torch.log(-torch.expm1(-gap))
        return torch.cat([below[..., :1], between, above[..., -1:]], dim=-1)  # (..., G, Q)
