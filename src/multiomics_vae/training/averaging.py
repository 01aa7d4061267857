"""An exponential moving average of the weights, which generalises better than the last iterate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """Keeps the average and can trade places with the live weights.

    average ← d · average + (1 − d) · weights after each step, with d = min(decay, (1 + t) / (10 + t)),
    so that the random start is forgotten at once.

    Parameters
    ----------
    module
        Its parameters are averaged; buffers are left alone.
    decay
        d in the long run; 0 makes the average the weights themselves.

    Examples
    --------
    >>> average = WeightAverage(torch.nn.Linear(2, 1), decay=0.99)
    >>> average.update()
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.decay = decay
        self.n_updates = 0
        self.average: list[Tensor] = [parameter.detach().clone() for parameter in self.parameters]
        self.in_use = False
        self._places = {id(parameter): i for i, parameter in enumerate(self.parameters)}
        self._own = list(range(len(self.parameters)))

    @property
    def next_decay(self) -> float:
        """D of the step to come."""
        return min(self.decay, (1 + self.n_updates) / (10 + self.n_updates)) if self.decay else 0.0

    def of(self, parameter: Tensor) -> Tensor:
        """The average of one parameter."""
        return self.average[self._places[id(parameter)]]

    def leave_out(self, parameters: Iterable[Tensor]) -> None:
        """Leave the average of some parameters to somebody else, who works by `next_decay`."""
        others = {id(parameter) for parameter in parameters}
        self._own = [i for i, parameter in enumerate(self.parameters) if id(parameter) not in others]

    def follow(self) -> None:
        """Move the average to where the weights are now: a trainer moves them to its device."""
        self.average = [
            average.to(parameter.device)
            for average, parameter in zip(self.average, self.parameters, strict=True)
        ]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of this step in."""
        if self._own:
            weights = [self.parameters[i].detach() for i in self._own]
            torch._foreach_lerp_([self.average[i] for i in self._own], weights, 1.0 - self.next_decay)
        self.n_updates += 1

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], n_updates: int) -> None:
        """Take over an average that was kept, its tensors named by position, and how many steps it holds."""
        for i, average in enumerate(self.average):
            average.copy_(tensors[str(i)])
        self.n_updates = n_updates

    def swap(self) -> None:
        """Exchange the live weights and the average, which costs no memory: they trade places."""
        for i, parameter in enumerate(self.parameters):
            parameter.data, self.average[i] = self.average[i], parameter.data
        self.in_use = not self.in_use
