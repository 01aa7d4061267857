"""A copy of a weight in bfloat16, written by its optimiser and read by products of rounded factors."""

from __future__ import annotations

import torch
from torch import Tensor

_NAME = "_rounded_copy"  # of the attribute by which a weight carries its copy


class RoundedCopy:
    """What a weight is in bfloat16, as long as nobody but its optimiser changes it.

    The copy is good for the memory and the version, as PyTorch counts them, that the weight had when the
    copy was written. Whoever writes to the weight past PyTorch, or by its fused optimisers, which do not
    count versions, must `forget` first; who writes ``tensor`` too may `confirm` at the end.

    Parameters
    ----------
    weight
        Float32, on a processor, contiguous.

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.ones(2, 2))
    >>> RoundedCopy.attach(weight)
    >>> RoundedCopy.of(weight) is None  # nothing is written yet
    True
    >>> RoundedCopy.detach(weight)
    """

    def __init__(self, weight: Tensor) -> None:
        self.tensor = torch.empty(weight.shape, dtype=torch.bfloat16)
        self._written: tuple[int, int] | None = None

    @staticmethod
    def attach(weight: Tensor) -> None:
        """Let a weight carry a copy from now on."""
        setattr(weight, _NAME, RoundedCopy(weight))

    @staticmethod
    def detach(weight: Tensor) -> None:
        """Free the copy that a weight carries, if any."""
        if hasattr(weight, _NAME):
            delattr(weight, _NAME)

    @staticmethod
    def on(weight: Tensor) -> RoundedCopy | None:
        """The copy that a weight carries, good or not."""
        found: RoundedCopy | None = getattr(weight, _NAME, None)
        return found

    @staticmethod
    def of(weight: Tensor) -> Tensor | None:
        """The weight in bfloat16, if it carries a good copy."""
        copy = RoundedCopy.on(weight)
        return copy.tensor if copy is not None and copy._written == _state_of(weight) else None

    def forget(self) -> None:
        """Say that the copy is no longer good."""
        self._written = None

    def confirm(self, weight: Tensor) -> None:
        """Say that the copy is what the weight is now."""
        self._written = _state_of(weight)


def _state_of(weight: Tensor) -> tuple[int, int]:
    return weight.data_ptr(), weight._version
