"""Gradients of wide layers, and copies of their weights, in the type of the products they are for.

A product of bfloat16 matrices comes in bfloat16. Written out as float32, it says nothing more, and takes
twice the memory on its way to an optimiser that waits for memory. And an optimiser that has a new weight at
hand rounds it for the next product at once, which would otherwise read it again for that alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from multiomics_vae.kernels.rounded_copy import RoundedCopy
from multiomics_vae.module import MultimodalModule
from multiomics_vae.networks.transforms.base import SparseTransform
from multiomics_vae.training.optimizer import AveragingAdamW


class RoundedGradients:
    """The weights whose gradients stay as rounded as they come, and those that carry a rounded copy.

    Parameters
    ----------
    weights
        Leaves, float32, whose gradients stay rounded.
    copied
        Leaves, float32, that carry a `RoundedCopy`.

    Examples
    --------
    >>> rounded = RoundedGradients([nn.Parameter(torch.zeros(4, 2))])
    >>> rounded.ask_for(torch.bfloat16)
    >>> rounded.restore()
    """

    def __init__(self, weights: Iterable[Tensor] = (), copied: Iterable[Tensor] = ()) -> None:
        self.weights, self.copied = list(weights), list(copied)

    @classmethod
    def of(
        cls,
        module: MultimodalModule,
        optimizer: torch.optim.Optimizer,
        with_copies: bool = True,
        read: Iterable[Tensor] = (),
    ) -> RoundedGradients:
        """The last layers of decoders, and the first of encoders, that an optimiser walks over.

        A gradient stays rounded where nothing but a product teaches the layer. A prior on the weights adds
        to their gradient what is not rounded; such a layer is left out. So are all where PyTorch, before
        2.10, gives a gradient the type of its weight and no other. Copies are for weights that nobody but
        the optimiser changes during training; ``read`` are those that `TouchedRows` steps in its place.
        """
        if not isinstance(optimizer, AveragingAdamW):
            return cls()
        can_round = hasattr(torch.Tensor, "grad_dtype")
        of_products: list[Tensor] = []
        copied: list[Tensor] = []
        for part in module.parts:
            first = next(iter(part.encoder.hidden.layers), None)
            if isinstance(first, nn.Linear) and part.encoder.projection is None:
                copied.append(first.weight)
                if can_round and isinstance(part.encoder.transform, SparseTransform):
                    of_products.append(first.weight)
            if not part.likelihood.is_fused:
                continue
            last = [layer.weight for layer in part.decoder.last_layers]
            copied += last
            if part.decoder.weight_precision == 0.0 and can_round:
                of_products += last
        others = {id(weight) for weight in read}
        kept = [each for each in copied if optimizer.walks_over(each) or id(each) in others]
        return cls(filter(optimizer.walks_over, of_products), kept if with_copies else [])

    def ask_for(self, dtype: torch.dtype | None) -> None:
        """From now on let the gradients come in a type, and copies be made in it; None for float32."""
        for weight in self.weights:
            weight.grad_dtype = torch.float32 if dtype is None else dtype
        for weight in self.copied:
            if dtype == torch.bfloat16:
                RoundedCopy.attach(weight)
            else:
                RoundedCopy.detach(weight)

    def restore(self) -> None:
        """Drop the gradients and the copies, and let the next gradients be float32."""
        for weight in self.weights:
            weight.grad = None
        self.ask_for(None)
