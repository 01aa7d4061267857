"""The best weights so far, which a model ends its training with."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class BestWeights:
    """One copy of a module's weights and buffers, written over when better ones come.

    Parameters
    ----------
    module
        Its weights as they are now are the first to be kept.

    Examples
    --------
    >>> layer = nn.Linear(1, 1)
    >>> best = BestWeights(layer)
    >>> _ = layer.weight.data.zero_()
    >>> best.restore()
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.tensors = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self._is_whole = True

    def keep(self) -> None:
        """Write the weights that are in place now over those kept before."""
        self._is_whole = False
        for name, value in self._module.state_dict().items():
            self.tensors[name].copy_(value)
        self._is_whole = True

    def take_over(self, tensors: Mapping[str, Tensor]) -> None:
        """Keep given weights in place of those kept before."""
        self.tensors = dict(tensors)

    def restore(self) -> None:
        """Put the kept weights in place, whichever are there now."""
        if not self._is_whole:
            self.keep()  # was interrupted half-way, and what was to be kept is still in place
        self._module.load_state_dict(self.tensors)
