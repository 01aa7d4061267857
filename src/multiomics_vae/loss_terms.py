"""The loss of one minibatch, as the named terms it is the sum of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class LossTerm:
    """One named term: ``weight · value`` is its share of the loss.

    ``value`` is an average over the minibatch, in nats a cell; ``modality`` is its position in the
    schema or None; ``n_counted`` is how many of the cells it concerns, None for all of them.
    """

    name: str
    value: Tensor
    weight: float
    modality: int | None = None
    n_counted: Tensor | None = None


@dataclass(frozen=True)
class LossTerms:
    """The loss and everything in it.

    Parameters
    ----------
    terms
        Their weighted sum is the loss.
    elbo
        L(all) with every λ = β = 1, average over cells, whatever the weights in training are.
    log_likelihood
        Expected log likelihood of each modality, summed over its cells, ``(M,)``.
    n_cells
        Cells that have each modality, ``(M,)``.
    """

    terms: tuple[LossTerm, ...]
    elbo: Tensor
    log_likelihood: Tensor
    n_cells: Tensor

    @cached_property
    def loss(self) -> Tensor:
        """The weighted sum of all terms."""
        values = torch.stack([term.value for term in self.terms])  # (terms,)
        return values @ values.new_tensor([term.weight for term in self.terms])
