"""Levels of a predictive distribution: which value lies at a level, and at which level a value lies.

A level is written as its normal score Φ⁻¹(level), which keeps its digits in both tails. Between the
outermost of S draws a level is a rank. Beyond them the distribution goes on as a normal one with the
predictive standard deviation, so that levels further out than 1/(S + 1) can be asked for, and told apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from multiomics_vae.analysis.predicted_cells import PredictedCells

LOWEST_SD = 1e-6
HIGHEST_SCORE = 37.0  # Φ(−37) is the smallest normal number of float64


class Levels(ABC):
    """The predictive distributions of B cells and G features."""

    @abstractmethod
    def value(self, score: float) -> np.ndarray:
        """The value at a level, ``(B, G)``, float32: one that x may have."""

    @abstractmethod
    def score(self, x: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Normal score of the level of ``x`` ``(B, G)``: the randomised probability integral transform.

        At a value of probability p the level is uniform between F(x−1) and F(x) (Czado et al. 2009), so
        that it is uniform in all if x follows the distribution.

        Parameters
        ----------
        x
            Observed values, ``(B, G)``.
        uniform
            Says where in its step a value lies, ``(B, G)``.
        """


def levels_of(block: PredictedCells) -> Levels:
    """The levels of some predicted cells."""
    if block.is_binary:
        return BinaryLevels(block.mean)
    bounded = 1.0 if block.likelihood.support == "fractions" and not block.is_discrete else np.inf
    lowest = -np.inf if block.likelihood.support == "real" else 0.0
    # Contiguous draws are sorted far faster than strided ones.
    draws = np.sort(np.ascontiguousarray(np.moveaxis(block.draws(), 0, -1)), axis=-1)  # (B, G, S)
    return RankedDraws(draws, np.maximum(block.sd, LOWEST_SD), block.is_discrete, lowest, bounded)


@dataclass(frozen=True, eq=False)
class BinaryLevels(Levels):
    """x is 1 with probability p ``(B, G)``, and 0 otherwise; nothing needs to be drawn."""

    probability: np.ndarray

    def value(self, score: float) -> np.ndarray:
        return (self.probability > 1.0 - ndtr(score)).astype(np.float32)

    def score(self, x: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        p = self.probability.astype(np.float64)
        level = np.where(x > 0, 1.0 - p + uniform * p, uniform * (1.0 - p))
        return np.asarray(_score_of(level))


@dataclass(frozen=True, eq=False)
class RankedDraws(Levels):
    """x as its draws.

    Parameters
    ----------
    draws
        Sorted by the last axis, ``(B, G, S)``.
    sd
        Of the predictive distribution, above 0, ``(B, G)``.
    is_discrete
        True if x is a whole number.
    lowest, highest
        What x may be at least and at most.
    """

    draws: np.ndarray
    sd: np.ndarray
    is_discrete: bool
    lowest: float
    highest: float

    @property
    def n_draws(self) -> int:
        return int(self.draws.shape[-1])

    @property
    def edge(self) -> float:
        """Normal score of the lowest draw's level, 1/(S + 1); that of the highest is its negative."""
        return float(ndtri(1.0 / (self.n_draws + 1)))

    def value(self, score: float) -> np.ndarray:
        step = 1.0 if self.is_discrete else 0.0
        if score < self.edge:
            found = self.draws[..., 0] - step + self.sd * (score - self.edge)
        elif score > -self.edge:
            found = self.draws[..., -1] + self.sd * (score + self.edge)
        else:
            # The k-th of S draws has an expected level of k/(S + 1).
            rank = int(np.rint(ndtr(score) * (self.n_draws + 1)))
            found = self.draws[..., min(max(rank, 1), self.n_draws) - 1]
        if self.is_discrete:
            found = np.ceil(found)
        return np.asarray(np.clip(found, self.lowest, self.highest), dtype=np.float32)

    def score(self, x: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        below = (self.draws < x[..., None]).sum(-1)  # (B, G)
        equal = (self.draws == x[..., None]).sum(-1)  # (B, G)
        inside = _score_of((below + uniform * (equal + 1)) / (self.n_draws + 1))
        step = uniform - 1.0 if self.is_discrete else 0.0
        above = -self.edge + (x - self.draws[..., -1] + step) / self.sd
        step = uniform if self.is_discrete else 0.0
        under = self.edge + (x - self.draws[..., 0] + step) / self.sd
        score = np.where(below == self.n_draws, above, inside)
        score = np.where(below + equal == 0, under, score)
        return np.asarray(np.clip(score, -HIGHEST_SCORE, HIGHEST_SCORE))


def _score_of(level: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(ndtri(level), -HIGHEST_SCORE, HIGHEST_SCORE))
