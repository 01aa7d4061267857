"""The compiled loop of a Poisson likelihood."""

from __future__ import annotations

import numpy as np

from multiomics_vae.kernels.compiled.count_loop import CountLoop
from multiomics_vae.kernels.compiled.loop import CompiledInputs, Floats, Sums
from multiomics_vae.kernels.compiled.normaliser import means_of_block
from multiomics_vae.kernels.compiled.poisson import add_entries, log_factorials


class PoissonLoop(CountLoop):
    """Costs of `PoissonKernel`; the means of all features of a cell add up to its depth."""

    def __init__(self, inputs: CompiledInputs) -> None:
        super().__init__(inputs)
        self.inverse_dispersion = np.zeros(self.n_features, np.float32)
        self.entry_slopes[:] = -self.values
        self.log_factorial: Floats = np.empty_like(self.values)
        log_factorials(self.counts, self.log_factorial)
        if self.entry_weights is not None:
            self.log_factorial *= self.entry_weights
            self.log_factorial += self.values * np.log(self.entry_weights)

    def _add_costs(self, features: slice, logits: Floats, cost: Sums, slope_sum: Sums) -> None:
        if features.start == 0 and self.drawn is None:
            cost += self.depth
            slope_sum += self.depth
        add_entries(
            logits,
            self.highest,
            self.rest,
            *self.entries_of(features),
            self.columns,
            self.values,
            self.log_factorial,
            features.start,
            cost,
            slope_sum,
        )
        means_of_block(logits, self.highest, self.rest)
        if self.drawn is not None:
            total = logits.sum(0, dtype=np.float64)  # (R,)
            cost += total
            slope_sum += total
