"""Gradients of wide output layers in the type of the products that they come from.

A product of bfloat16 matrices comes in bfloat16. Written out as float32, it says nothing more, and takes
twice the memory on its way to an optimiser that waits for memory.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from multiomics_vae.module import MultimodalModule
from multiomics_vae.training.optimizer import AveragingAdamW


class RoundedGradients:
    """The weights whose gradients stay as rounded as they come.

    Parameters
    ----------
    weights
        Leaves, float32.

    Examples
    --------
    >>> rounded = RoundedGradients([nn.Parameter(torch.zeros(4, 2))])
    >>> rounded.ask_for(torch.bfloat16)
    >>> rounded.restore()
    """

    def __init__(self, weights: Iterable[Tensor] = ()) -> None:
        self.weights = list(weights)

    @classmethod
    def of(cls, module: MultimodalModule, optimizer: torch.optim.Optimizer) -> RoundedGradients:
        """The last layers of decoders that an optimiser walks over and that nothing but a product teaches.

        A prior on the weights adds to their gradient what is not rounded; such a layer is left out. None
        where PyTorch, before 2.10, gives a gradient the type of its weight and no other.
        """
        if not isinstance(optimizer, AveragingAdamW) or not hasattr(torch.Tensor, "grad_dtype"):
            return cls()
        return cls(
            layer.weight
            for part in module.parts
            for layer in part.decoder.last_layers
            if part.likelihood.is_fused
            and part.decoder.weight_precision == 0.0
            and optimizer.walks_over(layer.weight)
        )

    def ask_for(self, dtype: torch.dtype | None) -> None:
        """From now on let the gradients come in a type; None for float32."""
        for weight in self.weights:
            weight.grad_dtype = torch.float32 if dtype is None else dtype

    def restore(self) -> None:
        """Drop the gradients and let the next ones be float32."""
        for weight in self.weights:
            weight.grad = None
        self.ask_for(None)
