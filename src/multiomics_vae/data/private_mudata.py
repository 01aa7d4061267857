"""A MuData of registered cells, for code that writes into what it is given."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData, set_options

from multiomics_vae.data.dataset import ModalityData, MultimodalData
from multiomics_vae.data.schema import ModalitySchema
from multiomics_vae.data.sources import Matrix
from multiomics_vae.data.stored import StoredRows

COVERAGE_LAYER = "coverage"


def private_mudata(data: MultimodalData) -> MuData:
    """Build a MuData around the canonical matrices, whose memory it shares.

    Values that are on disk are not brought in: a NaN stands for each of them, and takes no memory.

    ``X`` of every modality holds the registered values (missing entries as 0), ``obs`` the
    registered columns only, in the order of ``data.cell_names``.
    """
    names = pd.Index(data.cell_names)
    modalities = {
        schema.name: _private_modality(schema, part, names)
        for schema, part in zip(data.schema.modalities, data.modalities, strict=True)
    }
    random_state = random.getstate()
    with set_options(pull_on_update=False), warnings.catch_warnings():
        # Features of two modalities may share a name: each modality is read by itself.
        warnings.filterwarnings("ignore", "var_names are not unique", UserWarning)
        mdata = MuData(modalities)
        # MuData names temporary columns with Python's global generator.
        random.setstate(random_state)
        mdata.obs = _private_obs(data, names)
        for name, part in zip(modalities, data.modalities, strict=True):
            # MuData orders cells by modality; these follow the registered order.
            mdata.obsm[name] = part.row_of_cell >= 0
            mdata.obsmap[name] = (part.row_of_cell + 1).astype(np.uint32)
    return mdata


def _private_modality(schema: ModalitySchema, part: ModalityData, names: pd.Index) -> AnnData:
    cells = np.flatnonzero(part.row_of_cell >= 0)
    row_names = np.empty(len(cells), dtype=object)
    row_names[part.row_of_cell[cells]] = names[cells]
    layers = None if part.coverage is None else {COVERAGE_LAYER: _in_memory(part.coverage)}
    return AnnData(
        _in_memory(part.values),
        obs=pd.DataFrame(index=pd.Index(row_names)),
        var=pd.DataFrame(index=pd.Index(schema.features)),
        layers=layers,
    )


def _in_memory(values: Matrix | StoredRows) -> Matrix:
    return np.broadcast_to(np.float32(np.nan), values.shape) if isinstance(values, StoredRows) else values


def _private_obs(data: MultimodalData, names: pd.Index) -> pd.DataFrame:
    schema = data.schema
    obs = pd.DataFrame(index=names)
    if schema.batch is not None:
        obs[schema.batch.key] = pd.Categorical.from_codes(data.batch, pd.Index(schema.batch.categories))
    for column, grouping in enumerate(schema.categorical):
        obs[grouping.key] = pd.Categorical.from_codes(
            data.categorical[:, column], pd.Index(grouping.categories)
        )
    for column, number in enumerate(schema.continuous):
        obs[number.key] = data.continuous[:, column]
    return obs
