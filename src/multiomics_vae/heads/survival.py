"""Time until an event, by the hazards of time intervals."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multiomics_vae.data.schema import OutcomeKind, OutcomeSchema
from multiomics_vae.errors import InputError
from multiomics_vae.heads.base import TimeHead
from multiomics_vae.heads.head import Head


class IntervalHazards(TimeHead):
    """λ_j = p(event in interval j | none before) = σ(a_j + b_j·h) (Brown 1975; Gensheimer & Narasimhan 2019).

    The intervals end at quantiles of the event times of the training. An event costs
    −log λ_j − Σ_{i<j} log(1 − λ_i), a censored time −Σ log(1 − λ_i) over the intervals that are over by then.
    Within an interval the hazard is constant. With few distinct event times some intervals are empty and
    have no hazard. Effects may change with time, unlike in ``"cox"``.

    Parameters
    ----------
    n_inputs, outcome, head
        As in `OutcomeHead`; ``head.n_intervals`` is J.

    Examples
    --------
    >>> IntervalHazards(4, OutcomeSchema("os", "survival", ("time", "event")), Head()).n_scores
    10
    """

    name: ClassVar[str] = "survival"
    serves: ClassVar[tuple[OutcomeKind, ...]] = ("survival",)

    ends: Tensor

    def __init__(self, n_inputs: int, outcome: OutcomeSchema, head: Head) -> None:
        super().__init__(n_inputs, outcome, head)
        self.linear = nn.Linear(n_inputs, head.n_intervals)
        self.register_buffer("ends", torch.arange(1.0, head.n_intervals + 1.0))

    @property
    def n_scores(self) -> int:
        return self.head.n_intervals

    @property
    def grid(self) -> Tensor:
        return F.pad(self.ends, (1, 0))  # (J + 1,)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)  # (..., G, J)
        return logits

    def start_from(self, labels: Tensor) -> None:
        """Hazards as if the same share of all events fell into each interval: 1 / J, 1 / (J − 1), … ½."""
        left = torch.arange(self.n_scores, 0, -1, dtype=self.linear.bias.dtype)  # intervals to come
        self.linear.bias.copy_(torch.logit(1.0 / (left + 1.0)))

    def learn_from(self, labels: Tensor) -> None:
        """Let the intervals end at quantiles of the event times.

        Raises
        ------
        InputError
            If there is no event.
        """
        times = labels[labels[:, 1] == 1.0, 0]
        if len(times) == 0:
            raise InputError(
                f"No event of the outcome {self.outcome.name!r} is among the training cells, so nothing can "
                "be learned of when it comes. Hold out others: model.train(validation_indices=held_out)"
            )
        n, n_intervals = len(times), self.head.n_intervals
        ranks = [-(-j * n // n_intervals) - 1 for j in range(1, n_intervals + 1)]  # the inverted distribution
        ends = torch.unique(times.sort().values[ranks])
        ends = ends[ends > 0]
        if len(ends) == 0:
            raise InputError(
                f"All events of the outcome {self.outcome.name!r} are at time 0. Times count from when "
                f"a cell was taken; give a later one in mdata.obs[{self.outcome.keys[0]!r}]."
            )
        last = ends[-1:].expand(self.head.n_intervals - len(ends))
        self.ends.copy_(torch.cat([ends, last]))

    def log_survival_of_intervals(self, scores: Tensor) -> Tensor:
        """log(1 − λ_j), 0 for an empty interval: ``(..., G, J)``."""
        return torch.where(self.grid.diff() > 0, F.logsigmoid(-scores), 0.0)

    def negative_log_likelihood(self, scores: Tensor, labels: Tensor) -> Tensor:
        there = ~labels.isnan().any(1)
        time, event = labels.nan_to_num().unbind(1)  # (G,) each
        ended = torch.searchsorted(self.ends, time.contiguous(), right=True)  # (G,)
        interval = torch.searchsorted(self.ends, time.contiguous())  # (G,), J past the last end
        happened = (event > 0) & (interval < self.n_scores)
        survived = torch.where(happened, interval, ended)
        number = torch.arange(self.n_scores, device=scores.device)  # (J,)
        passed = number < survived[:, None]  # (G, J)
        log_survived = torch.where(passed, self.log_survival_of_intervals(scores), 0.0).sum(1)
        at = interval.clamp(max=self.n_scores - 1)[:, None]
        log_hazard = torch.where(happened, F.logsigmoid(scores).gather(1, at)[:, 0], 0.0)
        return torch.where(there, -log_survived - log_hazard, 0.0)

    def log_survival(self, scores: Tensor, times: Tensor) -> Tensor:
        cumulative = F.pad(self.log_survival_of_intervals(scores).cumsum(-1), (1, 0))  # (..., G, J + 1)
        interval = torch.searchsorted(self.ends, times.contiguous()).clamp(max=self.n_scores - 1)  # (T,)
        width = self.grid.diff()[interval]
        share = torch.where(width > 0, (times - self.grid[interval]) / width, 1.0)
        before, after = cumulative[..., interval], cumulative[..., interval + 1]
        found = before + share.clamp(0.0, 1.0) * (after - before)
        return torch.where(times <= self.ends[-1], found, torch.nan)  # (..., G, T)

    def risk(self, scores: Tensor) -> Tensor:
        """The cumulative hazard, averaged over the ends of the intervals (as in Ishwaran et al. 2008)."""
        full = self.grid.diff() > 0
        cumulative = -self.log_survival_of_intervals(scores).cumsum(-1)
        return torch.where(full, cumulative, 0.0).sum(-1) / full.sum()
