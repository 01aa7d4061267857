"""Types of cells, from whatever a user names them by."""

from __future__ import annotations

import numpy as np
import pandas as pd

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.errors import InputError, did_you_mean


def read_labels(
    labels: str | pd.Series | np.ndarray | list[str] | None,
    obs: pd.DataFrame,
    data: MultimodalData,
    cells: np.ndarray,
) -> np.ndarray | None:
    """Type of each of the cells asked about.

    Parameters
    ----------
    labels
        A column of ``obs``; a Series indexed by cell names; or an array with one entry for each cell asked
        about, or for each cell of the data.
    obs
        Columns known of all cells, indexed by their names.
    data, cells
        The registered cells, and the positions asked about, ``(N,)``.

    Returns
    -------
    ndarray or None
        ``(N,)`` of text, None for a missing one.

    Raises
    ------
    InputError
        For a column that is not there, a wrong length, or names that are missing.
    """
    if labels is None:
        return None
    names = data.cell_names[cells]
    if isinstance(labels, str):
        if labels not in obs:
            raise InputError(
                f"There is no column {labels!r} in obs. {did_you_mean(labels, obs.columns)} The model keeps "
                f"only the columns it was set up with; hand others over: labels=mdata.obs[{labels!r}]"
            )
        labels = obs[labels]
    if isinstance(labels, pd.Series):
        lacking = ~pd.Index(names).isin(labels.index)
        if lacking.any():
            raise InputError(
                f"labels has no entry for {int(lacking.sum())} of {len(names)} cells (the first is "
                f"{str(names[lacking][0])!r}): labels=mdata.obs['cell_type']"
            )
        if not labels.index.is_unique:
            raise InputError("labels names some cells twice: labels=mdata.obs['cell_type']")
        values = labels.loc[names].to_numpy(dtype=object)
    else:
        values = np.asarray(labels, dtype=object)
        if values.ndim == 1 and len(values) == data.n_cells:
            values = values[cells]
        elif values.shape != (len(cells),):
            raise InputError(
                f"labels has shape {values.shape}, but {len(cells)} cells are asked about: "
                "labels=mdata.obs['cell_type']"
            )
    return np.array([None if pd.isna(value) else str(value) for value in values], dtype=object)
