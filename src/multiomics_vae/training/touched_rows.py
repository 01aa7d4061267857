"""Optimising only the rows of a wide matrix that a step has seen, with the outcome of optimising all.

With `n_features_per_step` most features have no gradient at a step, but AdamW moves every weight at every
step, and the average of the weights takes every weight in. Here a row is left alone until it is drawn
again, and then makes up for the steps it missed (`WaitingTable`): the same numbers up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.kernels import FeatureSample
from multiomics_vae.kernels.allocation import empty_buffer
from multiomics_vae.kernels.compiled.blocks import Blocks
from multiomics_vae.module import MultimodalModule
from multiomics_vae.training.averaging import WeightAverage
from multiomics_vae.training.optimizer import AveragingAdamW
from multiomics_vae.training.row_loops import catch_up, current_rows, step_rows
from multiomics_vae.training.waiting_table import WaitingTable

ROWS_IN_PIECE = 1024


class LazyMatrix:
    """A matrix whose rows are optimised when they are drawn.

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
        self.age = np.zeros(len(parameter), np.int64)  # (F,)
        self.table = WaitingTable()
        self.features: Tensor | None = None
        self.leaf: Tensor | None = None
        self.squared_norm = 0.0

    def take(self, features: Tensor) -> Tensor:
        """Give what some rows are by now as a leaf, by whose gradient they are optimised."""
        weight, _, mean, square = self._arrays()
        rows, age, table, epsilon = features.numpy(), self.age, self.table.values, self._epsilon
        leaf = empty_buffer((len(rows), weight.shape[1]), self.parameter)  # (n, H)
        out = leaf.numpy()

        def work(thread: int, low: int, high: int) -> None:
            current_rows(weight, mean, square, rows[low:high], age, table, epsilon, out[low:high])

        with Blocks() as blocks:
            blocks.each(len(rows), work)
        self.features, self.leaf = features, leaf.requires_grad_()
        return self.leaf

    def settle(self) -> None:
        """Bring all rows up to date."""
        if self.table.n_steps:
            self._catch_up(np.arange(len(self.parameter)))
            self.table = WaitingTable()

    @property
    def gradient(self) -> Tensor | None:
        return None if self.leaf is None else self.leaf.grad

    def before_step(self) -> None:
        """If the whole matrix has a gradient, leave this step to the optimiser."""
        whole = self.parameter.grad
        if whole is None:
            return
        self.settle()
        if self.gradient is not None and self.features is not None:
            whole.index_add_(0, self.features, self.gradient)
        self.leaf = None

    def step(self) -> None:
        """Optimise the rows that have a gradient; for all others a step goes by."""
        decay, gradient = self.average.next_decay, self.gradient
        self.squared_norm = 0.0
        if self.parameter.grad is not None:  # the optimiser has done it
            self.average.of(self.parameter).lerp_(self.parameter.detach(), 1.0 - decay)
            return
        if gradient is None or self.features is None or self.leaf is None:
            self.table.pass_step(0.0, (1.0, 1.0), 1.0, decay)
            self.age += 1
            return
        epsilon_before = self._epsilon
        self.state["step"] += 1
        n_steps, (beta_mean, beta_square) = float(self.state["step"]), self.group["betas"]
        root = (1.0 - beta_square**n_steps) ** 0.5
        rate = self.group["lr"] * root / (1.0 - beta_mean**n_steps)
        shrink = 1.0 - self.group["lr"] * self.group["weight_decay"]
        rows, slopes, current = self.features.numpy(), gradient.numpy(), self.leaf.detach().numpy()
        numbers = (beta_mean, beta_square, rate, shrink, self.group["eps"] * root, decay)
        singles = tuple(np.float32(number) for number in numbers)
        arrays = self._arrays()
        made_up = (self.age, self.table.values, epsilon_before)

        squares = np.zeros(-(-len(rows) // ROWS_IN_PIECE))

        def work(thread: int, i: int) -> None:
            part = slice(i * ROWS_IN_PIECE, (i + 1) * ROWS_IN_PIECE)
            squares[i] = step_rows(*arrays, rows[part], *made_up, current[part], slopes[part], *singles)

        with Blocks() as blocks:
            blocks.each_one(len(squares), work)
        self.squared_norm = float(squares.sum())
        self.table.pass_step(rate, (beta_mean, beta_square), shrink, decay)
        self.age += 1
        self.age[rows] = 0
        if math.isfinite(self.squared_norm):  # else it is still to be found out whose gradient it was
            self.leaf = None

    @property
    def _epsilon(self) -> np.float32:
        """Adam's, times √(1 − β₂^t) of the last step."""
        n_steps = max(float(self.state["step"]), 1.0)
        return np.float32(self.group["eps"] * (1.0 - self.group["betas"][1] ** n_steps) ** 0.5)

    def _catch_up(self, rows: np.ndarray) -> None:
        epsilon, arrays = self._epsilon, self._arrays()

        def work(thread: int, low: int, high: int) -> None:
            catch_up(*arrays, rows[low:high], self.age, self.table.values, epsilon)

        with Blocks() as blocks:
            blocks.each(len(rows), work)

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        # Looked up every time: live weights and their average trade places.
        tensors = (
            self.parameter.detach(),
            self.average.of(self.parameter),
            self.state["exp_avg"],
            self.state["exp_avg_sq"],
        )
        weight, average, mean, square = (tensor.numpy() for tensor in tensors)
        return weight, average, mean, square


class TouchedRows:
    """All matrices of a module that are optimised by rows.

    Parameters
    ----------
    parameters
        The matrices.

    Examples
    --------
    >>> rows = TouchedRows([nn.Parameter(torch.zeros(4, 2))])
    >>> optimizer = torch.optim.AdamW(rows.parameters)
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self._matrices: dict[int, LazyMatrix] = {}

    @classmethod
    def of(cls, module: MultimodalModule, chances: tuple[Tensor | None, ...]) -> TouchedRows:
        """The last layers of decoders of which a part is drawn, by the chances of each modality.

        Where means are shares among features, their normaliser reads all rows at every step, and a prior on
        the weights gives all of them a gradient; such layers are left out.
        """
        return cls(
            layer.weight
            for part, drawn in zip(module.parts, chances, strict=True)
            for layer in part.decoder.last_layers
            if drawn is not None
            and part.decoder.weight_precision == 0.0
            and not part.likelihood.normalised_over_features
            and layer.weight.requires_grad
            and layer.weight.is_leaf
            and layer.weight.dtype == torch.float32
        )

    def attach(self, optimizer: torch.optim.AdamW, average: WeightAverage) -> None:
        """Take over the matrices from an optimiser and an average of weights."""
        if isinstance(optimizer, AveragingAdamW):
            optimizer.attach(average, self.parameters)
        else:
            average.leave_out(self.parameters)
        self._matrices = {id(p): LazyMatrix(p, optimizer, average) for p in self.parameters}
        optimizer.register_step_post_hook(lambda *_: self._step())

    def take(self, parameter: Tensor, sample: FeatureSample) -> Tensor:
        """The drawn rows of a parameter, ``(n, H)``; differentiable."""
        matrix = self._matrices.get(id(parameter))
        return sample.rows_of(parameter) if matrix is None else matrix.take(sample.features)

    def gradient(self, parameter: Tensor) -> Tensor | None:
        """The gradient of a parameter, or of those of its rows that were drawn."""
        matrix = self._matrices.get(id(parameter))
        rows = None if matrix is None else matrix.gradient
        return parameter.grad if rows is None else rows

    @property
    def squared_norm(self) -> float:
        """Σ gradient² of the rows that the last step has optimised here."""
        return sum(matrix.squared_norm for matrix in self._matrices.values())

    def before_step(self) -> None:
        """To be called between the backward pass and the optimiser's step."""
        for matrix in self._matrices.values():
            matrix.before_step()

    def settle(self) -> None:
        """Bring all rows up to date: before anything but a training step reads the weights."""
        for matrix in self._matrices.values():
            matrix.settle()

    @torch.no_grad()
    def _step(self) -> None:
        for matrix in self._matrices.values():
            matrix.step()
