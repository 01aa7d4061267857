"""How new cells around a place differ from known ones there, as weights of what a cell shows.

With what a cell shows, x, and its exposure e (counts: the cell's sum; real values: 1 where measured;
methylated counts: the coverage), the log likelihood ratio of the profile of the new cells around it, μ¹, to
that of the known ones, μ⁰, is Σ_g x_g β_g − Σ_g e_g γ_g:

- counts and open features, quasi-Poisson: δ = log μ¹ − log μ⁰ − b, β = δ / φ, γ = μ⁰ e^b (e^δ − 1) / φ;
- else normal: δ = μ¹ − μ⁰ − b, β = δ / v, γ = (μ⁰ + b + δ / 2) δ / v.

φ ≥ 1 and v are dispersion and variance around μ⁰, so that what varies from cell to cell anyway counts little.
δ is shrunk by s = n / (n + 30), as under a normal prior of variance 1/30 (times v) with information n on it:
this takes away the noise of a thousand rare features. b is what all new cells differ in, as those of another
laboratory do: 0 unless s (δ + b) has one sign around three quarters of the new cells, else its median over
that of s. So what is taken for the laboratory is not what one type has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.stored import StoredRows
from multiomics_vae.errors import MultiomicsError

COUNTED = ("counts", "binary")
LEFT_OUT = ("codes",)
PRIOR = 30.0
SMALLEST_VARIANCE = 1e-3  # of the average one
SHARED_BY, LEAST_KEPT = 0.75, 0.1


@dataclass(frozen=True, eq=False)
class Measured:
    """What cells show of some features.

    Parameters
    ----------
    values
        ``(N, G)``, float32; zero where nothing was measured.
    exposure
        ``(N, E)``, float32; E is 1 for counts and G otherwise.
    counted
        True for counts and open features.
    """

    values: sp.csr_matrix
    exposure: np.ndarray
    counted: bool

    def of(self, cells: np.ndarray) -> Measured:
        """The same of some cells."""
        return Measured(self.values[cells], self.exposure[cells], self.counted)

    def beside(self, other: Measured) -> Measured:
        """These cells and others."""
        values = sp.vstack([self.values, other.values], format="csr")
        return Measured(values, np.vstack([self.exposure, other.exposure]), self.counted)

    def around(self, nearest: np.ndarray) -> Sums:
        """Sums over the cells around some places, positions ``(A, k)``."""
        ends = np.arange(0, nearest.size + 1, nearest.shape[1])
        ones = np.ones(nearest.size, dtype=np.float32)
        around = sp.csr_matrix((ones, nearest.ravel(), ends), shape=(len(nearest), self.values.shape[0]))
        squares = self.values.copy()
        rows = np.repeat(np.arange(squares.shape[0]), np.diff(squares.indptr))
        exposure = self.exposure[rows, 0 if self.counted else squares.indices]
        squares.data = squares.data**2 / np.maximum(exposure, 1e-12)
        return Sums(
            (around @ self.values).toarray().astype(np.float64),
            (around @ self.exposure).astype(np.float64),
            (around @ squares).toarray().astype(np.float64),
            (around @ (self.exposure > 0).astype(np.float32)).astype(np.float64),
        )


@dataclass(frozen=True, eq=False)
class Sums:
    """Over the k cells around each of A places.

    Parameters
    ----------
    values, squares
        Σ x and Σ x² / e, ``(A, G)``.
    exposure, seen
        Σ e and the number of e > 0, ``(A, E)``.
    """

    values: np.ndarray
    exposure: np.ndarray
    squares: np.ndarray
    seen: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Σ x / Σ e, ``(A, G)``: μ."""
        found: np.ndarray = self.values / np.maximum(self.exposure, 1e-12)
        return found

    def spread(self, counted: bool) -> np.ndarray:
        """Dispersion φ or variance v around μ, pooled over the places, ``(G,)``."""
        mean = self.mean
        away = (self.squares - 2 * mean * self.values + mean**2 * self.exposure).sum(axis=0)
        if counted:
            usual = np.maximum((mean * self.seen).sum(axis=0), 1e-12)
            dispersion: np.ndarray = np.maximum(away / usual, 1.0)
            return dispersion
        variance: np.ndarray = away / np.maximum(self.seen.sum(axis=0), 1.0)
        least = SMALLEST_VARIANCE * float(variance.mean())
        bounded: np.ndarray = np.maximum(variance, least if least > 0 else 1.0)
        return bounded


def measured(data: MultimodalData, modality: int, features: np.ndarray, support: str) -> Measured:
    """Read some features, positions ``(G,)``, of cells in memory that all have the modality."""
    part = data.modalities[modality]
    if isinstance(part.values, StoredRows) or isinstance(part.coverage, StoredRows):
        raise MultiomicsError("These values are not in memory: data = data.loaded(cells)")
    rows = part.row_of_cell
    values = sp.csr_matrix(part.values[rows][:, features], dtype=np.float32)
    if support in COUNTED:
        if support == "binary":
            values = values.sign()
        sums = np.asarray(values.sum(axis=1), dtype=np.float32).reshape(-1, 1)
        return Measured(values, np.maximum(sums, 1.0), True)
    if part.coverage is not None:
        coverage = sp.csr_matrix(part.coverage[rows][:, features]).toarray().astype(np.float32)
        return Measured(values, coverage, False)
    observed = np.ones(values.shape) if part.observed is None else part.observed[rows][:, features]
    return Measured(sp.csr_matrix(values.multiply(observed)), observed.astype(np.float32), False)


def contrast(new: Sums, known: Sums, weights: np.ndarray, counted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights of values and exposures, β ``(A, G)`` and γ ``(A, E)``.

    Parameters
    ----------
    new, known
        Around the same places.
    weights
        Share of the new cells that each place stands for, ``(A,)``.
    counted
        As in `Measured`.
    """
    spread = known.spread(counted)
    first, second = new.mean, known.mean
    exposure = np.maximum(new.exposure + known.exposure, 1e-12)
    together = new.exposure * known.exposure / exposure
    if counted:
        one = 1.0 / exposure
        away = np.log(first + one) - np.log(second + one)
        information = together * (new.values + known.values) / exposure / spread
    else:
        away = first - second
        information = together
    kept = information / (information + PRIOR)
    usual = weighted_quantile(np.broadcast_to(kept, away.shape), weights, 0.5)
    low, middle, high = (weighted_quantile(away * kept, weights, q) for q in (1 - SHARED_BY, 0.5, SHARED_BY))
    common = np.where((low > 0) | (high < 0), middle, 0.0) / np.maximum(usual, LEAST_KEPT)  # (G,)
    away = (away - common) * kept
    if counted:
        constant = (second * np.exp(common) * np.expm1(away) / spread).sum(axis=1, keepdims=True)
    else:
        constant = (second + common + away / 2) * away / spread
    return (away / spread).astype(np.float32), constant.astype(np.float32)


def weighted_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """Quantile of every column of ``(A, G)``, rows weighted by ``(A,)``: ``(G,)``."""
    order = np.argsort(values, axis=0, kind="stable")
    below = np.cumsum(weights[order], axis=0)
    place = (below >= share * below[-1]).argmax(axis=0)
    columns = np.arange(values.shape[1])
    found: np.ndarray = values[order[place, columns], columns]
    return found
