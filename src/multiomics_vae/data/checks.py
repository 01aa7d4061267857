"""What a MuData must be before anything is read from it, and what counts must be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from multiomics_vae.data.scan import not_count
from multiomics_vae.data.sources import Matrix, Source, shown
from multiomics_vae.data.stored import StoredMatrix, first_where
from multiomics_vae.errors import InputError, did_you_mean, warn

MIN_CELLS = 3
# Above it float32 no longer holds every whole number.
EXACT_IN_FLOAT32 = 2.0**24


def check_container(mdata: object) -> None:
    """Refuse whatever is no MuData of named modalities with shared cells.

    Raises
    ------
    InputError
        For an AnnData, ``axis=1``, no modality, a name that is no string, a nested MuData, or repeated
        cell names.
    """
    if isinstance(mdata, AnnData):
        raise InputError(
            'This is an AnnData, one modality. Wrap it: `mdata = mudata.MuData({"rna": adata})`.'
        )
    if not isinstance(mdata, MuData):
        raise InputError(
            f"Expected a MuData, got {type(mdata).__name__}. "
            'Build one: `mdata = mudata.MuData({"rna": rna, "atac": atac})`.'
        )
    if mdata.axis != 0:
        raise InputError(
            f"The MuData shares axis {mdata.axis}, but its modalities must share cells (axis 0). "
            "Build it anew: `mdata = mudata.MuData(dict(mdata.mod))`."
        )
    if not mdata.mod:
        raise InputError(
            "The MuData has no modality. Build one: `mudata.MuData({'rna': rna, 'atac': atac})`."
        )
    for name, modality in mdata.mod.items():
        if not isinstance(name, str):
            raise InputError(
                f"A modality is called {name!r}, a {type(name).__name__}; names must be strings. "
                "Rename it: `mdata = mudata.MuData({str(name): data for name, data in mdata.mod.items()})`."
            )
        if not isinstance(modality, AnnData):
            raise InputError(
                f"mdata[{name!r}] is a {type(modality).__name__}; every modality must be an AnnData. "
                f"Take one out of it: `mdata = mudata.MuData({{'rna': mdata[{name!r}]['rna']}})`."
            )
    if mdata.n_obs == 0:
        raise InputError("The MuData has 0 cells. Look at the filter that made it: `mdata.n_obs`.")
    _check_unique_cells("mdata", mdata.obs_names)


def check_modality(mdata: Any, name: str) -> None:
    """Refuse a modality with repeated or no names, or one that its MuData does not know any more."""
    adata = mdata.mod[name]
    where = f"mdata[{name!r}]"
    _check_unique_cells(where, adata.obs_names)
    if not adata.var_names.is_unique:
        repeated = adata.var_names[adata.var_names.duplicated()].unique()
        raise InputError(
            f"{where}.var_names has repeated names: {shown(repeated)}. "
            f"Make them unique: `{where}.var_names_make_unique()`."
        )
    if adata.n_vars == 0:
        raise InputError(
            f"{where} has 0 features. Leave it out: `modalities={_others(mdata, name)}`, or look at the "
            f"filter that made it."
        )
    known = int(np.asarray(mdata.obsm[name]).sum()) if name in mdata.obsm else adata.n_obs
    strangers = adata.obs_names.difference(mdata.obs_names)
    if known != adata.n_obs or len(strangers):
        raise InputError(
            f"{where} has {adata.n_obs} cells, but the MuData was last told of {known}"
            f"{': it does not know ' + shown(strangers) if len(strangers) else ''}. "
            "It was changed without telling the MuData; run `mdata.update()`."
        )


def _others(mdata: Any, name: str) -> tuple[str, ...]:
    return tuple(other for other in mdata.mod if other != name)


def _check_unique_cells(where: str, names: pd.Index) -> None:
    if names.is_unique:
        return
    repeated = names[names.duplicated()].unique()
    raise InputError(
        f"{where}.obs_names has repeated names: {shown(repeated)}. Put the sample in front, in every "
        "modality (making names unique in each modality by itself would pair different cells): "
        "`adata.obs_names = adata.obs['sample'].astype(str) + '_' + adata.obs_names`."
    )


def check_enough_cells(n_cells: int) -> None:
    """Refuse data sets smaller than `MIN_CELLS`: two cells cannot show how features vary."""
    if n_cells < MIN_CELLS:
        raise InputError(
            f"The MuData has {n_cells} {'cell' if n_cells == 1 else 'cells'}; at least {MIN_CELLS} are "
            "needed to register a model. Look at the filter that made it: `mdata.n_obs`."
        )


def check_known(argument: str, given: Iterable[object], modalities: Iterable[str]) -> None:
    """Refuse keys of an argument that are no modality, with the name that was probably meant."""
    allowed = list(modalities)
    for name in given:
        if name not in allowed:
            raise InputError(f"`{argument}` names a modality {name!r}. {did_you_mean(name, allowed)}")


def check_counts(matrix: Matrix | StoredMatrix, source: Source, likelihood: str, first_row: int = 0) -> None:
    """Refuse the first value that is no count; every value is read.

    Parameters
    ----------
    matrix, source, likelihood
        The values, their address, and what they are for.
    first_row
        Row of ``source`` at which ``matrix`` begins.

    Raises
    ------
    InputError
        Naming the place, the cell, the feature and the value.
    """
    found = first_where(matrix, not_count)
    if found is not None:
        row, column, value = found
        raise InputError(
            f"{source} must hold counts (whole numbers ≥ 0) for likelihood {likelihood!r}, but "
            f"{source.entry(first_row + row, column)} is {value:g}, {_fault_kind(value)}. "
            f"{_other_values(source)}"
        )


def _fault_kind(value: float) -> str:
    if np.isnan(value):
        return "a missing value"
    if np.isinf(value):
        return "infinite (float16 ends at 65504: convert the original counts to float32)"
    if value < 0:
        return "negative"
    return "too large for float32" if value > np.finfo(np.float32).max else "not a whole number"


def _other_values(source: Source) -> str:
    name = source.modality
    return (
        f'Name the layer that holds raw counts, `layers={{"{name}": "counts"}}`, or, if these are real '
        f'values, `likelihoods={{"{name}": "gaussian"}}`.'
    )


def warn_inexact(largest: float, source: Source) -> None:
    """Warn of counts that float32 rounds."""
    if largest > EXACT_IN_FLOAT32:
        warn(
            f"{source} holds counts up to {largest:g}; above 2**24 = 16777216 float32 rounds them. "
            "If they are no counts, name their likelihood: "
            f'`likelihoods={{"{source.modality}": "gaussian"}}`.'
        )


def check_no_infinity(values: np.ndarray, source: Source, first_row: int = 0) -> None:
    """Refuse infinite real values; NaN is allowed, it is masked."""
    found = first_where(values, np.isinf)
    if found is not None:
        row, column, value = found
        raise InputError(
            f"{source}: {source.entry(first_row + row, column)} is {value:g} in float32. Write values that "
            f"were not measured as NaN: `{source}[np.isinf({source})] = np.nan`."
        )


def check_covered(
    values: Matrix, coverage: Matrix, source: Source, coverage_source: Source, first_row: int = 0
) -> None:
    """Refuse more methylated than covered reads."""
    excess = values > coverage
    if isinstance(excess, np.ndarray):
        where = np.argwhere(excess)
    else:
        where = np.argwhere(excess.getnnz(axis=1)[:, None] > 0)
        if len(where):
            row = int(where[0, 0])
            where = np.array([[row, int(np.flatnonzero(excess[row].toarray().ravel())[0])]])
    if len(where):
        row, column = (int(i) for i in where[0])
        raise InputError(
            f"{source.entry(first_row + row, column)}: {source} is {values[row, column]:g}, more than the "
            f"{coverage[row, column]:g} in {coverage_source}. Coverage counts all reads, methylated or not: "
            f"`{coverage_source} = methylated + unmethylated`."
        )
