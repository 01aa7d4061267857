"""What every head is: from what z says of a cell or donor to the distribution of an outcome.

Scores are what a head's last layer gives, one row for each cell or donor. Labels come as
`data.dataset.Labels` holds them; a row whose label is NaN costs nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from multiomics_vae.data.schema import OutcomeKind, OutcomeSchema
from multiomics_vae.heads.head import Head


class OutcomeHead(nn.Module, ABC):
    """Abstract; one subclass a file, of one of `ClassHead`, `NumberHead` and `TimeHead`.

    Class attributes
    ----------------
    name
        Key in the registry.
    serves
        Kinds of outcomes that it can predict.
    compares_rows
        True if the cost of a row depends on the rows beside it, as in a partial likelihood.

    Parameters
    ----------
    n_inputs
        H.
    outcome
        What is predicted.
    head
        What the user said.
    """

    name: ClassVar[str]
    serves: ClassVar[tuple[OutcomeKind, ...]]
    compares_rows: ClassVar[bool] = False

    def __init__(self, n_inputs: int, outcome: OutcomeSchema, head: Head) -> None:
        super().__init__()
        self.n_inputs = n_inputs
        self.outcome = outcome
        self.head = head

    @property
    @abstractmethod
    def n_scores(self) -> int:
        """S."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Scores from features ``(..., G, H)``: ``(..., G, S)``."""

    @abstractmethod
    def negative_log_likelihood(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Cost of every row, in nats, 0 where it has no label.

        Parameters
        ----------
        scores
            ``(G, S)``.
        labels
            ``(G, n_columns)``, NaN where there is none.

        Returns
        -------
        Tensor
            ``(G,)``.
        """

    def start_from(self, labels: Tensor) -> None:
        """Put the start values where the outcome does not depend on z, for labels as in `learn_from`."""

    def learn_from(self, labels: Tensor) -> None:
        """Settle, before the training, what follows from the labels alone.

        Parameters
        ----------
        labels
            Of all training cells or donors, ``(G, n_columns)``.
        """

    def finish(self, scores: Tensor, labels: Tensor) -> None:
        """Settle, after the training, what follows from scores and labels of the training cells or donors."""


class ClassHead(OutcomeHead):
    """A head whose outcome is one of Q categories; its scores are logits, which a temperature divides."""

    class_weights: Tensor

    def __init__(self, n_inputs: int, outcome: OutcomeSchema, head: Head) -> None:
        super().__init__(n_inputs, outcome, head)
        self.register_buffer("class_weights", torch.ones(len(outcome.categories)))

    def frequencies(self, labels: Tensor) -> Tensor:
        """Shares of the categories, none of them 0: ``(Q,)``."""
        codes = labels[:, 0][~labels[:, 0].isnan()].long()
        counts = torch.bincount(codes, minlength=len(self.class_weights)).to(self.class_weights) + 1.0
        return counts / counts.sum()

    @abstractmethod
    def log_probabilities(self, scores: Tensor) -> Tensor:
        """Log probability of every category: ``(..., G, S)`` -> ``(..., G, Q)``."""

    def negative_log_likelihood(self, scores: Tensor, labels: Tensor) -> Tensor:
        """−w_y log p(y), with w the class weights."""
        there = ~labels[:, 0].isnan()
        codes = labels[:, 0].nan_to_num().long()  # (G,)
        log_prob = self.log_probabilities(scores).gather(-1, codes[:, None])[:, 0]
        return torch.where(there, -log_prob * self.class_weights[codes], 0.0)

    def learn_from(self, labels: Tensor) -> None:
        """Class weights G / (Q n_q), where they were asked for; 1 for a category that is not there."""
        if self.head.class_weights is None:
            return
        codes = labels[:, 0][~labels[:, 0].isnan()].long()
        counts = torch.bincount(codes, minlength=len(self.class_weights)).to(self.class_weights)
        there = counts > 0
        balanced = len(codes) / (there.sum() * counts.clamp(min=1.0))
        self.class_weights.copy_(torch.where(there, balanced, torch.ones_like(balanced)))


class NumberHead(OutcomeHead):
    """A head whose outcome is a real number with a Gaussian distribution."""

    @abstractmethod
    def mean_and_sd(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Of the standardised outcome: ``(..., G)`` each."""


class TimeHead(OutcomeHead):
    """A head whose outcome is the time until an event, or until nothing more is known (censored)."""

    @abstractmethod
    def log_survival(self, scores: Tensor, times: Tensor) -> Tensor:
        """Log probability that the event comes later than each time.

        Parameters
        ----------
        scores
            ``(..., G, S)``.
        times
            Over the time scale, ``(T,)``.

        Returns
        -------
        Tensor
            ``(..., G, T)``; NaN at times past the last event of the training, of which nothing is known.
        """

    @abstractmethod
    def risk(self, scores: Tensor) -> Tensor:
        """A number that is the higher, the earlier the event is expected: ``(..., G)``."""

    @property
    @abstractmethod
    def grid(self) -> Tensor:
        """Rising times over the time scale between which survival is interpolated, the last one included."""
