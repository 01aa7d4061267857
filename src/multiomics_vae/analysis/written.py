"""Writes results where scanpy looks for them; the only place that changes a user's MuData."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from multiomics_vae.analysis.latent import LatentTable
from multiomics_vae.errors import InputError

if TYPE_CHECKING:
    from mudata import MuData


def write_latent(mdata: MuData, table: LatentTable, expert_names: tuple[str, ...], key: str) -> None:
    """Write the embedding, its uncertainty and the expert weights into a MuData.

    Parameters
    ----------
    mdata
        Changed: ``obsm[key]`` of the MuData and of each modality, and obs columns that begin with
        ``multivae_``.
    table
        One row for each cell of ``mdata``, in its order.
    expert_names
        Names of the columns of ``table.weights``.
    key
        Name of the embedding.

    Raises
    ------
    InputError
        If ``key`` is the name of a modality: MuData keeps in ``obsm`` under that name which cells have it.
    """
    if not isinstance(key, str) or not key or key in mdata.mod:
        raise InputError(
            f"The embedding cannot be called {key!r}: give a name that no modality has: "
            'model.write_results(mdata, key="X_multivae")'
        )
    mdata.obsm[key] = table.mean
    mdata.obs["multivae_entropy"] = table.entropy
    mdata.obs["multivae_sd"] = np.sqrt(table.variance).mean(axis=1)
    for column, name in enumerate(expert_names):
        mdata.obs[f"multivae_weight_{name}"] = table.weights[:, column]
    for modality in mdata.mod.values():
        rows = mdata.obs_names.get_indexer(modality.obs_names)
        modality.obsm[key] = table.mean[rows]
