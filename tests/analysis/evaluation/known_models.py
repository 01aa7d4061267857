"""Two linear-Gaussian modalities of one latent number, whose posteriors are all known exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import multivariate_normal

from handmade_models import data_of, linear_module, set_linear_expert, set_linear_gaussian, table
from multiomics_vae.analysis.evaluation.question import Question

LOADINGS = (np.full((4, 1), 0.8), np.full((4, 1), -0.5))


@dataclass(frozen=True)
class Known:
    """x_m = W_m z + ε, z and ε standard normal.

    Parameters
    ----------
    question
        All cells, and a module whose experts make every posterior exact.
    values
        ``(N, 4)`` of each modality.
    """

    question: Question
    values: tuple[np.ndarray, ...]

    def log_likelihood(self, modalities: tuple[int, ...] = (0, 1)) -> np.ndarray:
        """Exact log p(x_A) of every cell."""
        loadings = np.concatenate([LOADINGS[m] for m in modalities])
        x = np.concatenate([self.values[m] for m in modalities], axis=1)
        covariance = loadings @ loadings.T + np.eye(len(loadings))
        return np.asarray(multivariate_normal(np.zeros(len(loadings)), covariance).logpdf(x))

    def posterior(self, modalities: tuple[int, ...]) -> tuple[np.ndarray, float]:
        """Mean of z given x_A for every cell, and the variance."""
        precision = 1.0 + sum(float((LOADINGS[m] ** 2).sum()) for m in modalities)
        total = sum((self.values[m] @ LOADINGS[m]).ravel() for m in modalities)
        return np.asarray(total) / precision, 1.0 / precision


def known(
    n_cells: int = 60,
    seed: int = 0,
    present: np.ndarray | None = None,
    fusion: str = "product",
    swapped: int = 0,
    strength: float = 1.0,
) -> Known:
    """Cells from the model, W_m times ``strength``; the first ``swapped`` cells have another's modality 1."""
    loadings = [strength * w for w in LOADINGS]
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n_cells, 1))
    values = [z @ w.T + rng.normal(size=(n_cells, 4)) for w in loadings]
    values[1][:swapped] = np.roll(values[1][:swapped], 1, axis=0)
    tables = [table(v, None if present is None else present[:, m]) for m, v in enumerate(values)]
    data = data_of(tables, ["gaussian", "gaussian"])
    module = linear_module(data, n_latent=1, fusion=fusion)
    for m, w in enumerate(loadings):
        set_linear_gaussian(module, m, w, np.zeros(4), 1.0)
        set_linear_expert(module, m, w.T / (w**2).sum(), np.zeros(1), (w**2).sum(keepdims=True)[0])
    return Known(Question(module, data, np.arange(n_cells), 25, 5, 0), tuple(values))


def cells_of(question: Question, cells: np.ndarray) -> Question:
    """The same about other cells."""
    return replace(question, cells=cells)
