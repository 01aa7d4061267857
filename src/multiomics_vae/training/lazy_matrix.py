"""Optimising only the rows of a wide matrix that a step has seen, with the outcome of optimising all.

With `n_features_per_step` most features have no gradient at a step, but AdamW moves every weight at every
step, and the average of the weights takes every weight in. Here a row is left alone until it is drawn
again, and then makes up for the steps it missed (`WaitingTable`): the same numbers up to rounding.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.kernels.allocation import empty_buffer
from multiomics_vae.kernels.compiled.blocks import Blocks
from multiomics_vae.training.averaging import WeightAverage
from multiomics_vae.training.row_loops import catch_up, current_rows, step_rows
from multiomics_vae.training.touched_matrix import TouchedMatrix, singles
from multiomics_vae.training.waiting_table import WaitingTable
from multiomics_vae.training.walk import Walk

ROWS_IN_PIECE = 1024


class LazyMatrix(TouchedMatrix):
    """A matrix whose rows are optimised when they are drawn."""

    def __init__(self, parameter: Tensor, optimizer: torch.optim.AdamW, average: WeightAverage) -> None:
        super().__init__(parameter, optimizer, average)
        self.age = np.zeros(len(parameter), np.int64)  # (F,)
        self.table = WaitingTable()

    def take(self, features: Tensor) -> Tensor:
        self.finish()
        weight, _, mean, square = self.arrays()
        rows, age, table, epsilon = features.numpy(), self.age, self.table.values, self._epsilon
        leaf = empty_buffer((len(rows), weight.shape[1]), self.parameter)  # (n, H)
        out = leaf.numpy()

        def work(thread: int, low: int, high: int) -> None:
            current_rows(weight, mean, square, rows[low:high], age, table, epsilon, out[low:high])

        with Blocks() as blocks:
            blocks.each(len(rows), work)
        return self.taken(features, leaf)

    def settle(self) -> None:
        self.finish()
        if self.table.n_steps:
            self._catch_up(np.arange(len(self.parameter)))
            self.table = WaitingTable()

    def _pass_step(self, decay: float) -> None:
        self.table.pass_step(0.0, (1.0, 1.0), 1.0, decay)
        self.age += 1

    def _begin_drawn(self, features: Tensor, leaf: Tensor, gradient: Tensor) -> Walk:
        epsilon_before = self._epsilon
        numbers = self.next_numbers()
        beta_mean, beta_square, rate, shrink, _, decay = numbers
        rows, slopes, current = features.numpy(), gradient.numpy(), leaf.detach().numpy()
        arrays, made_up = self.arrays(), (self.age, self.table.values, epsilon_before)

        def walk(i: int) -> float:
            part = slice(i * ROWS_IN_PIECE, (i + 1) * ROWS_IN_PIECE)
            return float(
                step_rows(*arrays, rows[part], *made_up, current[part], slopes[part], *singles(numbers))
            )

        def after(squares: float) -> None:
            self.squares = squares
            self.table.pass_step(rate, (beta_mean, beta_square), shrink, decay)
            self.age += 1
            self.age[rows] = 0

        return Walk(-(-len(rows) // ROWS_IN_PIECE), walk, after)

    @property
    def _epsilon(self) -> np.float32:
        """Adam's, times √(1 − β₂^t) of the last step."""
        n_steps = max(float(self.state["step"]), 1.0)
        return np.float32(self.group["eps"] * (1.0 - self.group["betas"][1] ** n_steps) ** 0.5)

    def _catch_up(self, rows: np.ndarray) -> None:
        epsilon, arrays = self._epsilon, self.arrays()

        def work(thread: int, low: int, high: int) -> None:
            catch_up(*arrays, rows[low:high], self.age, self.table.values, epsilon)

        with Blocks() as blocks:
            blocks.each(len(rows), work)
