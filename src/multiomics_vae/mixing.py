"""How well groups of cells are mixed in an embedding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from multiomics_vae.errors import InputError

N_NEIGHBOURS = 90
ROUNDS = 50


def inverse_simpson(
    embedding: np.ndarray, groups: Sequence[object] | np.ndarray, n_neighbours: int = N_NEIGHBOURS
) -> np.ndarray:
    """Effective number of groups among the neighbours of each cell: the local inverse Simpson index.

    1 / Σ_g p_g², with p_g the share of group g among the neighbours, weighted by exp(−β d), d the distance
    and β such that the weights have the perplexity n/3 (LISI, Korsunsky et al. 2019, as scib-metrics has it).

    Parameters
    ----------
    embedding
        ``(N, K)``.
    groups
        Of each cell, ``(N,)``.
    n_neighbours
        Nearest other cells; at most N − 1.

    Returns
    -------
    ndarray
        From 1 to the number of groups, ``(N,)``.

    Raises
    ------
    InputError
        If lengths differ, or there are too few cells.

    Examples
    --------
    >>> inverse_simpson(embedding, obs["batch"]).mean()       # doctest: +SKIP
    1.8
    """
    from sklearn.neighbors import NearestNeighbors

    codes = pd.factorize(np.asarray(groups, dtype=object).astype(str))[0]
    n_cells = len(embedding)
    if n_cells != len(codes):
        raise InputError(
            f"The embedding has {n_cells} cells and the groups {len(codes)}; give one of each cell."
        )
    n = min(n_neighbours, n_cells - 1)
    if n < 3:
        raise InputError(f"Mixing is measured among neighbours, and {n_cells} cells are too few for that.")
    found = NearestNeighbors(n_neighbors=n).fit(embedding)
    distances, nearest = found.kneighbors()  # (N, n), the cell itself left out
    weights = _weights(distances, perplexity=n / 3)  # (N, n)
    shares = np.stack([(weights * (codes[nearest] == g)).sum(1) for g in range(codes.max() + 1)])  # (G, N)
    return np.asarray(1.0 / np.square(shares).sum(0))


def ilisi(
    embedding: np.ndarray, batch: Sequence[object] | np.ndarray, n_neighbours: int = N_NEIGHBOURS
) -> float:
    """Median of `inverse_simpson` over cells, set to 0 where no batches mix and 1 where all do.

    (median − 1) / (number of batches − 1), as scib-metrics has it; NaN for a single batch.
    """
    n_batches = len(set(map(str, batch)))
    if n_batches < 2:
        return float("nan")
    return float((np.median(inverse_simpson(embedding, batch, n_neighbours)) - 1.0) / (n_batches - 1))


def _weights(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """Weights exp(−β d) that sum to one and have the entropy log(perplexity), β by bisection: ``(N, n)``."""
    further = distances - distances[:, :1]
    scale = further.mean(1, keepdims=True)
    further = further / np.where(scale > 0, scale, 1.0)
    low, high = np.full(len(further), 1e-6), np.full(len(further), 1e6)
    for _ in range(ROUNDS):
        beta = np.sqrt(low * high)
        weights = np.exp(-beta[:, None] * further)
        weights /= weights.sum(1, keepdims=True)
        entropy = -(weights * np.log(np.maximum(weights, 1e-300))).sum(1)
        too_flat = entropy > np.log(perplexity)
        low, high = np.where(too_flat, beta, low), np.where(too_flat, high, beta)
    return np.asarray(weights)
