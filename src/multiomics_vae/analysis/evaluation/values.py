"""Held-out values, and the features among them that are seen often enough to be judged."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from multiomics_vae.data.dataset import ModalityData
from multiomics_vae.data.stored import StoredRows
from multiomics_vae.errors import MultiomicsError

FEWEST_POSITIVE = 10  # cells with and without a 0/1 feature
FEWEST_NONZERO = 20  # cells with a count, or a measured real value
SCORED = ("binary", "counts", "real", "fractions")


def in_memory(values: sp.csr_matrix | np.ndarray | StoredRows | None) -> sp.csr_matrix | np.ndarray:
    """Values of cells that were loaded; those on disk, or none at all, are a mistake of the caller."""
    if values is None or isinstance(values, StoredRows):
        raise MultiomicsError("These values are not in memory: part = modality.loaded(cells)")
    return values


def eligible_features(part: ModalityData, support: str) -> np.ndarray:
    """Positions of the features that are seen in enough cells to be judged.

    Parameters
    ----------
    part
        Values of the cells, in memory.
    support
        Of the likelihood.
    """
    n_cells, n_features = part.values.shape
    if support in ("binary", "counts"):
        seen = n_nonzero(in_memory(part.values))
        if part.gaps is not None:
            seen[~part.gaps.measured.numpy()] = 0
        if support == "binary":
            return np.flatnonzero((seen >= FEWEST_POSITIVE) & (n_cells - seen >= FEWEST_POSITIVE))
        return np.flatnonzero(seen >= FEWEST_NONZERO)
    known = np.full(n_features, n_cells)
    if part.coverage is not None:
        known = n_nonzero(in_memory(part.coverage))
    elif part.observed is not None:
        known = part.observed.sum(axis=0)
    return np.flatnonzero(known >= FEWEST_NONZERO)


def n_nonzero(values: sp.csr_matrix | np.ndarray) -> np.ndarray:
    """In how many cells each feature is not 0: ``(F,)``."""
    if isinstance(values, np.ndarray):
        return np.asarray(np.count_nonzero(values, axis=0))
    return np.bincount(values.indices[values.data != 0], minlength=values.shape[1])
