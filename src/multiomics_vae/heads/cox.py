"""Time until an event, by proportional hazards."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from multiomics_vae.data.schema import OutcomeKind, OutcomeSchema
from multiomics_vae.heads.base import TimeHead
from multiomics_vae.heads.head import Head

N_TIMES = 128


class Cox(TimeHead):
    """Hazard h_0(t) exp(b·h) (Cox 1972), learned by the partial likelihood with Efron's treatment of ties.

    With D_t the events at time t and R_t all whose time is t or later, the cost is

        −Σ_t [ Σ_{i in D_t} η_i − Σ_{l<|D_t|} log( Σ_{R_t} exp(η) − l/|D_t| Σ_{D_t} exp(η) ) ].

    The risk sets are the rows of a minibatch, so a step should hold many of them. After the training the
    baseline hazard is estimated from all training cells or donors (Breslow 1974), at all their event times,
    or at `N_TIMES` quantiles of them if there are more.

    Parameters
    ----------
    n_inputs, outcome, head
        As in `OutcomeHead`.

    Examples
    --------
    >>> Cox(4, OutcomeSchema("os", "survival", ("time", "event")), Head()).n_scores
    1
    """

    name: ClassVar[str] = "cox"
    serves: ClassVar[tuple[OutcomeKind, ...]] = ("survival",)
    compares_rows: ClassVar[bool] = True

    times: Tensor
    cumulative: Tensor

    def __init__(self, n_inputs: int, outcome: OutcomeSchema, head: Head) -> None:
        super().__init__(n_inputs, outcome, head)
        self.linear = nn.Linear(n_inputs, 1, bias=False)
        # No baseline is known before the end of a training, which a cumulative hazard of 0 says.
        self.register_buffer("times", torch.zeros(N_TIMES))
        self.register_buffer("cumulative", torch.zeros(N_TIMES))

    @property
    def n_scores(self) -> int:
        return 1

    @property
    def grid(self) -> Tensor:
        return self.times

    def forward(self, features: Tensor) -> Tensor:
        log_ratio: Tensor = self.linear(features)  # (..., G, 1)
        return log_ratio

    def negative_log_likelihood(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Share of each event in the partial likelihood of the rows; 0 for all others."""
        there = ~labels.isnan().any(1)
        log_ratio = scores[:, 0]  # (G,)
        time, event = labels.nan_to_num().unbind(1)
        happened = there & (event > 0)
        at_risk = (time >= time[:, None]) & there  # (G, G), row i: those in the risk set of i
        tied = (time == time[:, None]) & happened & happened[:, None]  # (G, G)
        rank = tied.tril(-1).sum(1) / tied.sum(1).clamp(min=1)  # (G,), l / |D|
        # The largest of the risk set is taken out, so that no exponential overflows.
        highest = torch.where(at_risk, log_ratio.detach(), -torch.inf).amax(1)  # (G,)
        highest = torch.where(there, highest, 0.0)
        ratio = torch.where(at_risk, log_ratio - highest[:, None], -torch.inf).exp()  # (G, G)
        total = ratio.sum(1) - rank * torch.where(tied, ratio, 0.0).sum(1)
        cost = torch.where(happened, total, 1.0).log() + highest - log_ratio
        return torch.where(happened, cost, 0.0)

    def finish(self, scores: Tensor, labels: Tensor) -> None:
        """Breslow's estimate Σ_{t_i ≤ t} |D_i| / Σ_{R_i} exp(η) of the cumulative baseline hazard."""
        there = ~labels.isnan().any(1)
        time, event = labels[there].double().unbind(1)
        ratio = scores[there, 0].double().exp()
        order = time.argsort()
        time, event, ratio = time[order], event[order], ratio[order]
        of_all = ratio.flip(0).cumsum(0).flip(0)  # Σ over those that stand at or after a row
        moments, n_events = torch.unique(time[event > 0], return_counts=True)
        if len(moments) == 0:
            return
        at_risk = of_all[torch.searchsorted(time, moments)]  # the first row of a tie sees all of it
        cumulative = (n_events / at_risk).cumsum(0)
        if len(moments) > N_TIMES:
            kept = torch.linspace(0, len(moments) - 1, N_TIMES).round().long().to(moments.device)
        else:
            kept = torch.arange(N_TIMES, device=moments.device).clamp(max=len(moments) - 1)
        self.times.copy_(moments[kept])
        self.cumulative.copy_(cumulative[kept])

    def log_survival(self, scores: Tensor, times: Tensor) -> Tensor:
        """−H_0(t) exp(η), with a step at every event."""
        passed = torch.searchsorted(self.times, times.contiguous(), right=True)  # (T,)
        hazard = torch.where(passed > 0, self.cumulative[(passed - 1).clamp(min=0)], 0.0)
        known = (times <= self.times[-1]) & (self.cumulative[-1] > 0)
        return torch.where(known, -hazard * scores.exp(), torch.nan)  # (..., G, T)

    def risk(self, scores: Tensor) -> Tensor:
        """η, the log of the hazard ratio."""
        return scores[..., 0]
