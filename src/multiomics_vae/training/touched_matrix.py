"""A wide matrix of which a step sees some rows, and what it is optimised with."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.kernels.rounded_copy import RoundedCopy
from multiomics_vae.training.averaging import WeightAverage
from multiomics_vae.training.walk import Walk


class TouchedMatrix(ABC):
    """A matrix that is optimised by the gradient of the rows that a step has drawn; abstract.

    Parameters
    ----------
    parameter
        ``(F, H)``, float32, on a processor.
    optimizer
        Whose settings and moments are used; it must have the parameter.
    average
        That of the weights, which leaves this parameter out.
    """

    def __init__(self, parameter: Tensor, optimizer: torch.optim.AdamW, average: WeightAverage) -> None:
        self.parameter, self.average = parameter, average
        self.group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
        self.state = optimizer.state[parameter]
        if not self.state:
            self.state["step"] = torch.zeros((), dtype=torch.float32)
            self.state["exp_avg"] = torch.zeros_like(parameter)
            self.state["exp_avg_sq"] = torch.zeros_like(parameter)
        self.features: Tensor | None = None
        self.leaf: Tensor | None = None
        self.squares = 0.0
        self.overlaps = False
        self._walk: Walk | None = None
        self._is_taken = False  # the walk of this step has begun

    @abstractmethod
    def take(self, features: Tensor) -> Tensor:
        """Give what some rows are by now as a leaf, by whose gradient the matrix is optimised."""

    @abstractmethod
    def settle(self) -> None:
        """Bring all rows up to date."""

    @abstractmethod
    def _begin_drawn(self, features: Tensor, leaf: Tensor, gradient: Tensor) -> Walk:
        """One step of AdamW and of the average, of which Σ gradient² goes to ``squares``."""

    @abstractmethod
    def _pass_step(self, decay: float) -> None:
        """A step without any gradient: AdamW leaves the weights alone, and the average moves to them."""

    @property
    def gradient(self) -> Tensor | None:
        """Of the rows that were drawn."""
        return None if self.leaf is None else self.leaf.grad

    def finish(self) -> None:
        """End the walk that is under way, if one is."""
        walk, self._walk = self._walk, None
        if walk is not None:
            walk.finish()

    def taken(self, features: Tensor, leaf: Tensor) -> Tensor:
        """Remember the rows that a step reads."""
        self.features, self.leaf = features, leaf.requires_grad_()
        if self.overlaps:
            leaf.register_post_accumulate_grad_hook(self._begin)  # type: ignore[no-untyped-call]
        return leaf

    def before_step(self) -> None:
        """If the whole matrix has a gradient, leave this step to the optimiser."""
        whole = self.parameter.grad
        if whole is None:
            return
        assert not self._is_taken, "rows were drawn that overlap, and all rows were read too"
        self.settle()
        if self.gradient is not None and self.features is not None:
            whole.index_add_(0, self.features, self.gradient)
        self.leaf = None

    def step(self) -> None:
        """Optimise by the gradient of the rows that were drawn."""
        leaf = self.leaf
        if self._is_taken:
            self._is_taken = False
            return
        self.finish()
        decay = self.average.next_decay
        self.squares = 0.0
        if self.parameter.grad is not None:  # the optimiser has done it
            copy = RoundedCopy.on(self.parameter)
            if copy is not None:  # PyTorch's fused step does not count as a new version
                copy.forget()
            self.average.of(self.parameter).lerp_(self.parameter.detach(), 1.0 - decay)
        elif leaf is None or leaf.grad is None:
            self._pass_step(decay)
        else:
            self._begin(leaf)
            self._is_taken = False
            if not self.overlaps:
                self.finish()

    @torch.no_grad()
    def _begin(self, leaf: Tensor) -> None:
        features, gradient = self.features, leaf.grad
        assert features is not None
        assert gradient is not None
        self.finish()
        self._walk, self._is_taken = self._begin_drawn(features, leaf, gradient), True
        self.leaf = None

    def next_numbers(self) -> tuple[float, ...]:
        """Count a step; β₁, β₂, rate, shrinkage, ε and decay of it, as the loops over rows want them."""
        self.state["step"] += 1
        n_steps, (beta_mean, beta_square) = float(self.state["step"]), self.group["betas"]
        root = (1.0 - beta_square**n_steps) ** 0.5
        rate = self.group["lr"] * root / (1.0 - beta_mean**n_steps)
        shrink = 1.0 - self.group["lr"] * self.group["weight_decay"]
        return (beta_mean, beta_square, rate, shrink, self.group["eps"] * root, self.average.next_decay)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Weight, average and the two moments, ``(F, H)`` each."""
        # Looked up every time: live weights and their average trade places.
        tensors = (
            self.parameter.detach(),
            self.average.of(self.parameter),
            self.state["exp_avg"],
            self.state["exp_avg_sq"],
        )
        weight, average, mean, square = (tensor.numpy() for tensor in tensors)
        return weight, average, mean, square


def singles(numbers: tuple[float, ...]) -> tuple[np.float32, ...]:
    """Numbers as compiled loops take them."""
    return tuple(np.float32(number) for number in numbers)
