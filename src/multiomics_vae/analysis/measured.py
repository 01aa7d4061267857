"""What was measured of some cells, as dense tables."""

from __future__ import annotations

import numpy as np

from multiomics_vae.data.dataset import ModalityData
from multiomics_vae.data.matrices import dense
from multiomics_vae.data.stored import take_rows


def measured_values(part: ModalityData, cells: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Values of cells that have a modality, NaN where an entry was not measured: ``(B, G)``, float32.

    Without coverage a methylated count was not measured.

    Parameters
    ----------
    part
        The modality.
    cells, features
        Positions, ``(B,)`` and ``(G,)``.
    """
    loaded = part.loaded(cells)
    rows = np.arange(len(cells))
    values = dense(take_rows(loaded.values, rows))[:, features].astype(np.float32)
    if loaded.observed is not None:
        values[~loaded.observed[:, features]] = np.nan
    if loaded.coverage is not None:
        values[dense(take_rows(loaded.coverage, rows))[:, features] <= 0] = np.nan
    if loaded.gaps is not None:
        values[:, ~loaded.gaps.measured.numpy()[features]] = np.nan
    return values
