"""A MuData in which every modality has every cell: measured values as they are, the others imputed."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
from anndata import AnnData

from multiomics_vae.analysis.imputed import Prediction
from multiomics_vae.analysis.imputed_table import NOTE, imputed_table
from multiomics_vae.analysis.measured import measured_values
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.errors import DeviceError

if TYPE_CHECKING:
    from mudata import MuData


def completed(
    data: MultimodalData,
    cells: np.ndarray,
    source: MuData | None,
    asked_for: Callable[[int, np.ndarray], Prediction],
) -> MuData:
    """Fill every modality up.

    Parameters
    ----------
    data, cells
        The registered cells, and the positions wanted, ``(N,)``.
    source
        Where the measured values, obs and var are copied from; None for the registered values.
    asked_for
        The prediction of a modality for cells that lack it.

    Returns
    -------
    MuData
        Of N cells in every modality. ``X`` of a cell that has it is what was measured, of others the
        predictive mean; the layers of uncertainty are NaN where a value was measured.
    """
    random_state = random.getstate()
    with mudata.set_options(pull_on_update=False), warnings.catch_warnings():
        # Features of two modalities may share a name.
        warnings.filterwarnings("ignore", ".*var_names are not unique", UserWarning)
        full = mudata.MuData(
            {
                schema.name: _filled(data, cells, source, m, asked_for)
                for m, schema in enumerate(data.schema.modalities)
            }
        )
        # MuData names temporary columns with Python's global generator.
        random.setstate(random_state)
    if source is not None:
        for column in source.obs.columns:
            full.obs[column] = source.obs[column].loc[full.obs_names].to_numpy()
    return full


def _filled(
    data: MultimodalData,
    cells: np.ndarray,
    source: MuData | None,
    m: int,
    asked_for: Callable[[int, np.ndarray], Prediction],
) -> AnnData:
    schema, part = data.schema.modalities[m], data.modalities[m]
    lacking = part.row_of_cell[cells] < 0
    names = data.cell_names[cells]
    try:
        x = np.empty((len(cells), schema.n_features), dtype=np.float32)
    except MemoryError as error:
        raise DeviceError(
            f"{len(cells)} cells by {schema.n_features} features of {schema.name!r} do not fit the memory. "
            f"Write what is wanted to a file: model.write_imputed('imputed.h5ad', {schema.name!r})"
        ) from error
    x[~lacking] = _measured(data, cells[~lacking], source, m)
    obs = pd.DataFrame(index=names)
    status = np.where(lacking, "imputed", "measured")
    obs["status"] = pd.Categorical(status, categories=["measured", "imputed"])
    var = pd.DataFrame(index=pd.Index(schema.features))
    if source is not None and schema.name in source.mod:
        var = source[schema.name].var.loc[list(schema.features)].copy()
    result = AnnData(x, obs=obs, var=var)
    if lacking.any():
        found = imputed_table(asked_for(m, cells[lacking]))
        result.X[lacking] = found.X
        for name, layer in found.layers.items():
            result.layers[name] = np.full(x.shape, np.nan, dtype=np.float32)
            result.layers[name][lacking] = layer
        for column in ("latent_sd", "latent_entropy"):
            result.obs[column] = np.float32(np.nan)
            result.obs.loc[lacking, column] = found.obs[column].to_numpy()
        result.uns[NOTE] = found.uns[NOTE]
    return result


def _measured(data: MultimodalData, cells: np.ndarray, source: MuData | None, m: int) -> np.ndarray:
    schema, part = data.schema.modalities[m], data.modalities[m]
    if len(cells) == 0:
        return np.empty((0, schema.n_features), dtype=np.float32)
    if source is None:
        return measured_values(part, cells, np.arange(schema.n_features))
    adata = source[schema.name]
    columns = adata.var_names.get_indexer(list(schema.features))
    rows = adata.obs_names.get_indexer(data.cell_names[cells])
    whole = adata.X if schema.layer is None else adata.layers[schema.layer]
    taken = whole[np.sort(rows)][np.argsort(np.argsort(rows))]
    values = taken if isinstance(taken, np.ndarray) else taken.toarray()
    return np.asarray(values, dtype=np.float32)[:, columns]
