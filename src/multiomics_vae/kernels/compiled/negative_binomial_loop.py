"""The compiled loop of a negative binomial likelihood with one dispersion a feature."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.kernels.compiled.count_loop import CountLoop
from multiomics_vae.kernels.compiled.loop import CompiledInputs, Floats, Sums
from multiomics_vae.kernels.compiled.negative_binomial import (
    COUNTS_IN_TABLE,
    add_entries,
    add_zeros,
    constant_terms,
    fill_table,
)

FEWEST_ENTRIES_OF_TABLE = 1.5  # for every feature; with fewer, the table costs more than it saves


class NegativeBinomialLoop(CountLoop):
    """Costs of `NegativeBinomialKernel`."""

    def __init__(self, inputs: CompiledInputs) -> None:
        super().__init__(inputs)
        assert inputs.log_dispersion is not None
        assert inputs.dispersion_weights is not None
        self.own_log_dispersion: Floats = inputs.log_dispersion.detach().numpy()
        self.own_dispersion: Floats = np.exp(self.own_log_dispersion)
        self.log_dispersion, self.dispersion = self.own_log_dispersion, self.own_dispersion
        if self.feature_weights is not None:
            self.log_dispersion = self.own_log_dispersion + np.log(self.feature_weights)
            self.dispersion = self.own_dispersion * self.feature_weights
        self.inverse_dispersion = np.reciprocal(self.dispersion)
        self.dispersion_weights: Floats = inputs.dispersion_weights.numpy()
        self.log_dispersion_slope: Floats = np.zeros(self.n_features, np.float32)
        is_worth_it = len(self.values) >= FEWEST_ENTRIES_OF_TABLE * self.n_features
        n_in_table = self.n_features if is_worth_it else 0
        self.table: Floats = np.empty((2, COUNTS_IN_TABLE, n_in_table), np.float32)
        self.constant_cost: Floats = np.empty_like(self.values)
        self.constant_slope: Floats = np.empty_like(self.values)

    def _run(self) -> None:
        self.blocks.each(self.table.shape[2], self._fill_table)
        self.blocks.each(len(self.values), self._add_constants)
        if self.entry_weights is not None:
            self.constant_cost *= self.entry_weights
            self.constant_slope *= self.entry_weights
        super()._run()

    def _fill_table(self, _: int, low: int, high: int) -> None:
        part = slice(low, high)
        fill_table(self.own_log_dispersion[part], self.own_dispersion[part], self.table[..., part])

    def _add_constants(self, _: int, low: int, high: int) -> None:
        constant_terms(
            self.counts[low:high],
            self.columns[low:high],
            self.own_dispersion,
            self.table,
            self.constant_cost[low:high],
            self.constant_slope[low:high],
        )

    def _add_costs(self, features: slice, logits: Floats, cost: Sums, slope_sum: Sums) -> None:
        by_dispersion = self.log_dispersion_slope[features]
        add_entries(
            logits,
            self.highest,
            self.rest,
            self.log_dispersion[features],
            self.dispersion_weights,
            *self.entries_of(features),
            self.columns,
            self.values,
            self.constant_cost,
            self.constant_slope,
            features.start,
            cost,
            slope_sum,
            self.entry_slopes,
            by_dispersion,
        )
        add_zeros(
            logits,
            self.highest,
            self.rest,
            self.dispersion[features],
            self.dispersion_weights,
            cost,
            slope_sum,
            by_dispersion,
        )

    def _log_dispersion_gradient(self) -> Tensor | None:
        return torch.from_numpy(self.log_dispersion_slope) if self.wanted.log_dispersion else None
