"""A parameter as an optimiser's loop sees it: entries in a row, and what belongs to each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class FlatParameter:
    """Arrays on the memory of a parameter, its average and its two moments.

    Making them takes longer than a step of a small parameter, so they are kept from step to step; whoever
    keeps them must ask `is_of` whether they still lie where the tensors are.

    Parameters
    ----------
    parameter, average
        Contiguous, float32, on a processor.
    state
        Of AdamW: ``"step"``, ``"exp_avg"``, ``"exp_avg_sq"``.

    Examples
    --------
    >>> import torch
    >>> weight, average = torch.ones(2, 3), torch.zeros(2, 3)
    >>> state = {name: torch.zeros(2, 3) for name in ("exp_avg", "exp_avg_sq")} | {"step": torch.zeros(())}
    >>> FlatParameter(weight, average, state).next_step()
    1.0
    """

    def __init__(self, parameter: Tensor, average: Tensor, state: dict[str, Tensor]) -> None:
        tensors = (parameter, average, state["exp_avg"], state["exp_avg_sq"])
        self.arrays: list[NDArray[Any]] = [each.detach().view(-1).numpy() for each in tensors]
        self._step: NDArray[np.float32] = state["step"].numpy()
        self._mean, self._square, self._count = state["exp_avg"], state["exp_avg_sq"], state["step"]
        # A weight and its average trade places now and then, under whatever name.
        self._places = parameter.data_ptr(), average.data_ptr()

    def is_of(self, parameter: Tensor, average: Tensor, state: dict[str, Tensor]) -> bool:
        """Whether these are the arrays of such tensors."""
        same = self._mean is state["exp_avg"] and self._square is state["exp_avg_sq"]
        same = same and self._count is state["step"]
        return same and self._places == (parameter.data_ptr(), average.data_ptr())

    def next_step(self) -> float:
        """Count a step, and return its number."""
        self._step += 1.0
        return float(self._step)
