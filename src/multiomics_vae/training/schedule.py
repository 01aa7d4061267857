"""How the learning rate and β go up and down over the steps of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from multiomics_vae.training.config import TrainingConfig

WARM_STEPS = 100
LOWEST_RATE = 0.01


@dataclass(frozen=True)
class Schedule:
    """The course of a run, known before its first step.

    Parameters
    ----------
    n_epochs
        Passes at the most.
    steps_per_epoch
        Steps of a pass.
    warmup_epochs
        Passes over which β rises.
    patience
        Passes without a better held-out ELBO after which training stops.

    Examples
    --------
    >>> Schedule(n_epochs=4, steps_per_epoch=5, warmup_epochs=2, patience=3).kl_scale(4)
    0.5
    """

    n_epochs: int
    steps_per_epoch: int
    warmup_epochs: float
    patience: int

    @classmethod
    def of(
        cls,
        config: TrainingConfig,
        n_cells: int,
        n_processes: int = 1,
        steps_per_epoch: int | None = None,
    ) -> Schedule:
        """Settle what a configuration leaves open, for a number of training cells.

        Parameters
        ----------
        config, n_cells, n_processes
            The choices, and what they apply to.
        steps_per_epoch
            If it does not follow from the batch size, because whole donors are larger.
        """
        step_size = config.batch_size * n_processes
        if steps_per_epoch is not None:
            step_size = -(-n_cells // steps_per_epoch)
        return cls(
            config.n_epochs(n_cells, step_size),
            steps_per_epoch or -(-n_cells // step_size),
            config.n_warmup_epochs(n_cells, step_size),
            config.n_patient_epochs(n_cells, step_size),
        )

    @property
    def n_steps(self) -> int:
        return max(1, self.n_epochs * self.steps_per_epoch)

    def learning_rate_factor(self, step: int) -> float:
        """Up a straight line, then down a cosine to 1 % at the last step; steps count from 0."""
        rise = min(1.0, (step + 1) / max(1, min(WARM_STEPS, self.n_steps // 10)))
        progress = min(1.0, step / self.n_steps)
        return rise * (LOWEST_RATE + (1.0 - LOWEST_RATE) * 0.5 * (1.0 + math.cos(math.pi * progress)))

    def kl_scale(self, step: int) -> float:
        """Warm-up factor of β, a straight line; steps count from 0."""
        steps = self.warmup_epochs * self.steps_per_epoch
        return 1.0 if steps <= 0 else min(1.0, (step + 1) / steps)
