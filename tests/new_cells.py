"""Cells that a fitted model has not seen."""

from __future__ import annotations

from typing import Any

import mudata
import numpy as np

from small_models import make_cells


def new_cells(n_cells: int = 40, seed: int = 5, **choices: Any) -> mudata.MuData:
    """Cells of two batches and a donor that the reference has not seen."""
    made = make_cells(n_cells=n_cells, seed=seed, **choices)
    for adata in made.mod.values():
        adata.obs_names = "new_" + adata.obs_names
    mdata = mudata.MuData(dict(made.mod))
    mdata.obs = made.obs.set_index("new_" + made.obs_names).loc[mdata.obs_names]
    mdata.obs["batch"] = np.where(np.arange(n_cells) % 2 == 0, "b7", "b0")
    mdata.obs.iloc[:5, list(mdata.obs.columns).index("batch")] = "b8"
    mdata.obs["donor"] = np.where(np.arange(n_cells) % 3 == 0, "d9", "d1")
    return mdata


def without(mdata: mudata.MuData, modality: str, dropped: list[str]) -> mudata.MuData:
    """The same cells without some features of one modality."""
    parts = dict(mdata.mod)
    parts[modality] = parts[modality][:, ~parts[modality].var_names.isin(dropped)].copy()
    found = mudata.MuData(parts)
    found.obs = mdata.obs.loc[found.obs_names]
    return found
