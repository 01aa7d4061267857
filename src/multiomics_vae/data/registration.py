"""From a MuData to aligned, checked data under a schema: `register` makes the schema, `read` obeys one.

The MuData is only read; where its matrices have the wanted form already their memory is shared. Matrices
on disk (``mudata.read_h5mu(path, backed=True)``) are scanned by chunks of rows and stay there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from multiomics_vae.data import columns, modality
from multiomics_vae.data.alignment import check_every_cell_measured, columns_by_name
from multiomics_vae.data.checks import check_container, check_enough_cells, check_modality
from multiomics_vae.data.dataset import ModalityData, MultimodalData
from multiomics_vae.data.donors import read_labels
from multiomics_vae.data.guess import Chosen, choose
from multiomics_vae.data.options import SetupOptions, check_options
from multiomics_vae.data.outcomes import register_outcomes, warn_if_features
from multiomics_vae.data.schema import CategoricalCovariate, ModalitySchema, Schema
from multiomics_vae.data.sources import raw_values, source_of
from multiomics_vae.data.stored import columns_of, matrix_of
from multiomics_vae.errors import InputError, warn
from multiomics_vae.likelihoods import LIKELIHOODS

__all__ = ["SetupOptions", "read", "register"]


def register(mdata: Any, options: SetupOptions | None = None) -> MultimodalData:
    """Check a MuData, infer what was not said, and align its modalities by cell name.

    Parameters
    ----------
    mdata
        MuData with shared cells; a cell may lack any modality but not all. Never changed.
    options
        What is known; None means that everything is inferred.

    Returns
    -------
    MultimodalData
        With the schema that was inferred.

    Raises
    ------
    InputError
        What is wrong, where, the value seen, and a line that mends it.

    Examples
    --------
    >>> data = register(mdata, SetupOptions(batch_key="donor"))  # doctest: +SKIP
    >>> print(describe(data))                                    # doctest: +SKIP
    """
    options = options or SetupOptions()
    check_container(mdata)
    names = check_options(mdata, options)
    for name in names:
        check_modality(mdata, name)
    check_enough_cells(mdata.n_obs)
    pairs = [_register_modality(mdata, name, options) for name in names]
    schemas, parts = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    present = np.stack([part.row_of_cell >= 0 for part in parts], axis=1)  # (N, M)
    check_every_cell_measured(mdata.obs_names, present, names)
    if len(names) > 1 and int(present.sum(axis=1).max()) < 2:
        warn(
            f"The modalities {', '.join(map(repr, names))} have no shared cells: no cell shows how they "
            "belong together. Check that the cell names are written in the same way in all of them."
        )
    if options.size_factor_key is not None:
        factors = _needed_factors(mdata, options.size_factor_key, schemas, parts)
        rescaled = [_learn_scale(*pair, factors) for pair in zip(schemas, parts, strict=True)]
        schemas, parts = [pair[0] for pair in rescaled], [pair[1] for pair in rescaled]
    batch = None
    if options.batch_key is not None:
        column = columns.find_column(mdata, options.batch_key, "batch_key")
        batch = columns.categories_of(column)
        codes = columns.codes_of(column, batch)
        columns.warn_single_cells(codes, batch)
        columns.warn_confounded(codes, present, batch)
    categorical = tuple(_register_categorical(mdata, key) for key in options.categorical_covariate_keys)
    role = "continuous_covariate_keys"
    continuous = tuple(
        columns.standardisation_of(columns.numbers_of(columns.find_column(mdata, key, role)), key)
        for key in options.continuous_covariate_keys
    )
    unlabelled = tuple(str(name).casefold() for name in options.unlabelled)
    outcomes = register_outcomes(mdata, options.outcomes, unlabelled)
    warn_if_features(outcomes, tuple(schemas))
    schema = Schema(
        tuple(schemas),
        batch,
        categorical,
        continuous,
        options.size_factor_key,
        options.donor_key,
        outcomes,
        unlabelled,
    )
    return _with_columns(mdata, schema, tuple(parts), donor_needed=True)


def read(
    mdata: Any, schema: Schema, *, average_new_batches: bool = False, donor_needed: bool = False
) -> MultimodalData:
    """Read other cells under a schema that exists: features and categories are matched by name.

    Features in another order are put in order, extra ones and extra modalities are left out. A
    registered modality may be absent as long as every cell has at least one of them.

    Parameters
    ----------
    mdata
        MuData with shared cells. Never changed.
    schema
        Of the model.
    average_new_batches
        Give cells of batches that the schema does not have the code -1, which encoders read as the average
        of all batches, instead of refusing them. What decodes must not be given such cells.
    donor_needed
        Refuse a MuData without the column of donors.

    Raises
    ------
    InputError
        For missing features (their share and names), categories that the schema does not have (the
        allowed ones), and whatever `register` refuses.
    """
    check_container(mdata)
    given = [entry.name for entry in schema.modalities if entry.name in mdata.mod]
    if not given:
        raise InputError(
            f"The MuData has none of the registered modalities {list(schema.modality_names)}, only "
            f"{list(mdata.mod)}. Rename one: `mudata.MuData({{{schema.modality_names[0]!r}: adata}})`."
        )
    for name in given:
        check_modality(mdata, name)
    parts = [_read_modality(mdata, entry) for entry in schema.modalities]
    present = np.stack([part.row_of_cell >= 0 for part in parts], axis=1)  # (N, M)
    check_every_cell_measured(mdata.obs_names, present, given)
    if schema.size_factor_key is not None:
        factors = _needed_factors(mdata, schema.size_factor_key, list(schema.modalities), parts)
        parts = [
            part if entry.depth_from_values else _with_factors(part, factors, entry.depth_scale)
            for entry, part in zip(schema.modalities, parts, strict=True)
        ]
    return _with_columns(mdata, schema, tuple(parts), donor_needed, average_new_batches)


def _register_modality(mdata: Any, name: str, options: SetupOptions) -> tuple[ModalitySchema, ModalityData]:
    adata = mdata.mod[name]
    if adata.n_obs == 0:
        raise InputError(
            f"mdata[{name!r}] has 0 cells. Leave it out: "
            f"`modalities={tuple(other for other in mdata.mod if other != name)}`."
        )
    covered = options.coverage_layers.get(name)
    chosen = choose(
        adata, name, options.likelihoods.get(name), options.layers.get(name), name in options.layers, covered
    )
    found = modality.canonical(
        chosen.matrix, chosen.source, chosen.likelihood, modality.coverage_of(adata, name, covered)
    )
    modality.check_every_feature_observed(found, chosen.source)
    depth = modality.floored(modality.totals(found, chosen.likelihood), chosen.source)
    features = tuple(str(feature) for feature in adata.var_names)
    schema = ModalitySchema(
        name, chosen.likelihood, chosen.source.layer, covered, features, note=_note(chosen, found.measured)
    )
    return schema, modality.place_rows(found, mdata.obs_names, adata.obs_names, depth)


def _note(chosen: Chosen, measured: np.ndarray) -> str:
    empty = int((~measured).sum())
    return chosen.note + (f"; {empty} cells NaN throughout count as lacking it" if empty else "")


def _read_modality(mdata: Any, entry: ModalitySchema) -> ModalityData:
    adata = mdata.mod.get(entry.name)
    covered = entry.coverage_layer
    if adata is None or adata.n_obs == 0:
        return modality.absent(mdata.n_obs, entry.n_features, entry.likelihood, covered is not None)
    wanted = columns_by_name(entry.features, adata.var_names, entry.name)
    source = source_of(adata, entry.name, entry.layer)
    matrix = columns_of(matrix_of(raw_values(adata, source), source), wanted)
    coverage = modality.coverage_of(adata, entry.name, covered)
    if coverage is not None:
        coverage = columns_of(coverage[0], wanted), coverage[1].with_features(entry.features)
    source = source.with_features(entry.features)
    found = modality.canonical(matrix, source, entry.likelihood, coverage)
    depth = modality.floored(modality.totals(found, entry.likelihood), source)
    return modality.place_rows(found, mdata.obs_names, adata.obs_names, depth)


def _register_categorical(mdata: Any, key: str) -> CategoricalCovariate:
    column = columns.find_column(mdata, key, "categorical_covariate_keys")
    covariate = columns.categories_of(column)
    columns.warn_single_cells(columns.codes_of(column, covariate), covariate)
    return covariate


def _needed_factors(
    mdata: Any, key: str, schemas: list[ModalitySchema], parts: list[ModalityData]
) -> np.ndarray:
    needed = np.zeros(mdata.n_obs, dtype=bool)
    for schema, part in zip(schemas, parts, strict=True):
        if LIKELIHOODS[schema.likelihood].normalised_over_features:
            needed |= part.row_of_cell >= 0
    return columns.size_factors(mdata, key, needed)


def _learn_scale(
    schema: ModalitySchema, part: ModalityData, factors: np.ndarray
) -> tuple[ModalitySchema, ModalityData]:
    """Replace the depth by the size factors, scaled to the same mean, where a depth is modelled."""
    if not LIKELIHOODS[schema.likelihood].normalised_over_features:
        return schema, part
    scale = float(part.depth.mean(dtype=np.float64) / factors[part.row_of_cell >= 0].mean())
    return replace(schema, depth_from_values=False, depth_scale=scale), _with_factors(part, factors, scale)


def _with_factors(part: ModalityData, factors: np.ndarray, scale: float) -> ModalityData:
    cells = np.flatnonzero(part.row_of_cell >= 0)
    depth = np.empty(len(cells), dtype=np.float32)
    depth[part.row_of_cell[cells]] = factors[cells] * scale
    return replace(part, depth=depth)


def _with_columns(
    mdata: Any,
    schema: Schema,
    parts: tuple[ModalityData, ...],
    donor_needed: bool = False,
    average_new_batches: bool = False,
) -> MultimodalData:
    """Add the columns of obs, coded and standardised as the schema says."""
    n_cells = mdata.n_obs
    batch = np.zeros(n_cells, dtype=np.int64)
    if schema.batch is not None:
        column = columns.find_column(mdata, schema.batch.key, "batch_key")
        batch = columns.codes_of(column, schema.batch, allow_new=average_new_batches)
    codes = [_codes(mdata, covariate, "categorical_covariate_keys") for covariate in schema.categorical]
    categorical = np.stack(codes, axis=1) if codes else np.zeros((n_cells, 0), dtype=np.int64)
    role = "continuous_covariate_keys"
    raw = [
        columns.numbers_of(columns.find_column(mdata, covariate.key, role)) for covariate in schema.continuous
    ]
    return MultimodalData(
        schema=schema,
        cell_names=pd.Index(mdata.obs_names).to_numpy(dtype=object),
        modalities=parts,
        batch=batch,
        categorical=categorical,
        continuous=columns.standardised(raw, schema.continuous, n_cells),
        labels=read_labels(mdata, schema, donor_needed),
    )


def _codes(mdata: Any, covariate: CategoricalCovariate, role: str) -> np.ndarray:
    return columns.codes_of(columns.find_column(mdata, covariate.key, role), covariate)
