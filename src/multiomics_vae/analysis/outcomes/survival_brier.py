"""The Brier score of predicted survival, with censoring weighted away."""

from __future__ import annotations

import numpy as np
from scipy.integrate import trapezoid

from multiomics_vae.analysis.outcomes.kaplan_meier import kaplan_meier


def survival_brier(time: np.ndarray, event: np.ndarray, survival: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Mean squared error of S(t | x) at each time, weighted by inverse chances of censoring.

    BS(t) = (1/n) Σ_i [ S(t|x_i)² 1[t_i ≤ t, death] / G(t_i−) + (1 − S(t|x_i))² 1[t_i > t] / G(t) ], with G
    the Kaplan-Meier estimate of staying uncensored (Graf et al. 1999).

    Parameters
    ----------
    time, event
        Time of death or censoring, and which it is, ``(n,)``.
    survival
        Predicted S(t | x), ``(n, G)``.
    grid
        Times, ``(G,)``.

    Returns
    -------
    ndarray
        ``(G,)``; NaN at times that every one of the patients was censored before.
    """
    died = np.asarray(event, dtype=bool)
    uncensored = kaplan_meier(time, ~died)
    before = uncensored.at(time, before=True)  # (n,)
    now = uncensored.at(grid)  # (G,)
    with np.errstate(divide="ignore", invalid="ignore"):
        dead = np.where(died[:, None] & (time[:, None] <= grid), survival**2 / before[:, None], 0.0)
        alive = np.where(time[:, None] > grid, (1.0 - survival) ** 2 / now, 0.0)
    return np.where(now > 0, (dead + alive).mean(0), np.nan)


def integrated_brier(time: np.ndarray, event: np.ndarray, survival: np.ndarray, grid: np.ndarray) -> float:
    """`survival_brier` averaged over the times of the grid by the trapezoidal rule; .25 is S = ½ throughout.

    Parameters
    ----------
    time, event, survival, grid
        As in `survival_brier`; the grid rises.
    """
    score = survival_brier(time, event, survival, grid)
    known = np.isfinite(score)
    if known.sum() < 2:
        return float("nan")
    width = grid[known][-1] - grid[known][0]
    return float(trapezoid(score[known], grid[known]) / width)
