"""What AdamW and an average of weights do to a weight while its gradient is zero, in closed form.

After k steps without a gradient the moments are β₁^k m and β₂^k v, so every one of these steps moves the
weight along m / √v, by a length that is the same for all weights. The sum of the steps is a number for
each k, and k steps can be made up for at once:

    w ← S_k w − D_k m / √v,     average ← K_k average + T_k w − L_k m / √v.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MEAN, SQUARE, DRIFT, SHRINK, KEEP, TAKE, LAG = range(7)
NO_STEP = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0])


class WaitingTable:
    """The numbers β₁^k, β₂^k, D_k, S_k, K_k, T_k and L_k for the last k steps, k = 0, 1, … since a start.

    Attributes
    ----------
    values
        ``(7, steps + 1)``, float64.

    Examples
    --------
    >>> table = WaitingTable()
    >>> table.pass_step(rate=0.1, betas=(0.5, 0.25), shrink=1.0, decay=0.0)
    >>> table.values[DRIFT].tolist()  # w moves by 0.1 · 0.5 / √0.25 times m / √v
    [0.0, 0.1]
    """

    def __init__(self) -> None:
        self.values: NDArray[np.float64] = NO_STEP[:, None].copy()

    @property
    def n_steps(self) -> int:
        """Steps since the start."""
        return int(self.values.shape[1]) - 1

    def pass_step(self, rate: float, betas: tuple[float, float], shrink: float, decay: float) -> None:
        """Let one more step go by.

        Parameters
        ----------
        rate
            lr √(1 − β₂^t) / (1 − β₁^t) of the step; 0 if the optimiser left the matrix out.
        betas
            β₁ and β₂ of the step; 1 if the optimiser left the matrix out.
        shrink
            1 − lr · weight decay.
        decay
            Weight of the past in the average.
        """
        old, new = self.values, np.empty((len(NO_STEP), self.values.shape[1] + 1))
        new[:, 0] = NO_STEP
        later = new[:, 1:]
        later[MEAN], later[SQUARE] = old[MEAN] * betas[0], old[SQUARE] * betas[1]
        later[SHRINK] = old[SHRINK] * shrink
        later[DRIFT] = old[DRIFT] * shrink + rate * later[MEAN] / np.sqrt(later[SQUARE])
        later[KEEP] = decay * old[KEEP]
        later[TAKE] = decay * old[TAKE] + (1.0 - decay) * later[SHRINK]
        later[LAG] = decay * old[LAG] + (1.0 - decay) * later[DRIFT]
        self.values = new
