"""Columns of obs: found in the MuData or in its modalities, checked, and turned into codes or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from multiomics_vae.data.alignment import rows_by_name
from multiomics_vae.data.schema import CategoricalCovariate, ContinuousCovariate
from multiomics_vae.data.sources import shown
from multiomics_vae.errors import InputError, did_you_mean, warn

# A float column with more distinct values than this is a measurement, not a grouping.
_MAX_FLOAT_CATEGORIES = 20
LOOKS_MISSING = ("", "nan", "NaN", "NA", "N/A", "None", "<NA>", "null")


@dataclass(frozen=True)
class Column:
    """A column of obs for all N cells.

    Parameters
    ----------
    key
        Its name.
    role
        The argument that named it, for errors.
    values
        Indexed by ``mdata.obs_names``.
    code
        The expression that gives ``values``, so that a line to paste can start from it.
    """

    key: str
    role: str
    values: pd.Series
    code: str

    def mended(self, call: str) -> str:
        """Return a line to paste that writes the column into ``mdata.obs`` after a call on it."""
        return f"`mdata.obs[{self.key!r}] = {self.code}{call}`"


def find_column(mdata: Any, key: str, role: str) -> Column:
    """One column for all N cells, from ``mdata.obs`` or else from the modalities that have it.

    Parameters
    ----------
    mdata
        A MuData, or its view.
    key
        Name of the column; ``"rna:donor"`` asks for the column of one modality.
    role
        The argument that named it, for errors.

    Raises
    ------
    InputError
        If there is no such column, or two modalities disagree about a cell.
    """
    if not isinstance(key, str):
        raise InputError(f"`{role}` must be the name of a column of obs, got {key!r}.")
    if key in mdata.obs.columns:
        return Column(key, role, pd.Series(mdata.obs[key]), f"mdata.obs[{key!r}]")
    holders = [name for name, adata in mdata.mod.items() if key in adata.obs.columns]
    if holders:
        return _union(mdata, key, role, holders)
    for name, adata in mdata.mod.items():
        inner = key.removeprefix(f"{name}:")
        if inner != key and inner in adata.obs.columns:
            values = pd.Series(adata.obs[inner]).reindex(mdata.obs_names)
            return Column(key, role, values, f"mdata[{name!r}].obs[{inner!r}].reindex(mdata.obs_names)")
    columns = set(mdata.obs.columns).union(*(adata.obs.columns for adata in mdata.mod.values()))
    raise InputError(f"`{role}`: there is no column {key!r} in obs. {did_you_mean(key, columns)}")


def _union(mdata: Any, key: str, role: str, holders: list[str]) -> Column:
    """Fill every cell from the first modality that knows it; refuse modalities that disagree."""
    columns = [mdata.mod[name].obs[key] for name in holders]
    dtype = columns[0].dtype if len({column.dtype for column in columns}) == 1 else None
    if dtype is None or isinstance(dtype, pd.CategoricalDtype):
        columns = [column.astype(object) for column in columns]
    whole: pd.Series = columns[0].reindex(mdata.obs_names)
    for name, column in zip(holders[1:], columns[1:], strict=True):
        rows = rows_by_name(mdata.obs_names, column.index)
        other = column.reindex(mdata.obs_names)
        shared = (rows >= 0) & whole.notna().to_numpy() & other.notna().to_numpy()
        differs = shared & (whole != other).fillna(False).to_numpy(dtype=bool)
        if differs.any():
            cell = mdata.obs_names[differs][0]
            raise InputError(
                f"Column {key!r} differs between modalities for {int(differs.sum())} cells: cell "
                f"{str(cell)!r} is {whole[cell]!r} in mdata[{holders[0]!r}].obs, {other[cell]!r} in "
                f"mdata[{name!r}].obs. Say which one is meant: "
                f"`mdata.obs[{key!r}] = mdata[{name!r}].obs[{key!r}].reindex(mdata.obs_names)`."
            )
        whole = whole.where(whole.notna(), other)
    first, *others = (f"mdata[{name!r}].obs[{key!r}].astype(object)" for name in holders)
    code = first + "".join(f".combine_first({other})" for other in others) + ".reindex(mdata.obs_names)"
    # The same categories everywhere keep their order, which an ordinal outcome needs.
    return Column(key, role, whole.astype(dtype) if isinstance(dtype, pd.CategoricalDtype) else whole, code)


def categories_of(column: Column) -> CategoricalCovariate:
    """Categories of a column, unused ones left out, in pandas' order or else sorted.

    Raises
    ------
    InputError
        If a cell has no value, or the column is a continuous measurement.
    """
    _check_no_gaps(column)
    values = column.values
    if isinstance(values.dtype, pd.CategoricalDtype):
        found = values.cat.remove_unused_categories().cat.categories
    else:
        found = pd.Index(values.unique())
        if found.dtype.kind == "f" and _is_measurement(found, len(values)):
            raise InputError(
                f"`{column.role}`: column {column.key!r} is continuous, with {len(found)} distinct values in "
                f"{len(values)} cells (such as {found[0]:g}). If they are groups after all: "
                f"{column.mended('.astype(str)')}."
            )
        found = found.sort_values() if found.dtype.kind in "biuf" else pd.Index(sorted(map(text_of, found)))
    categories = tuple(dict.fromkeys(text_of(value) for value in found))
    odd = [category for category in categories if category in LOOKS_MISSING]
    if odd:
        warn(
            f"`{column.role}`: column {column.key!r} has the category {odd[0]!r}, which reads like a missing "
            "value; it is taken as a group of its own."
        )
    return CategoricalCovariate(column.key, categories)


def codes_of(column: Column, covariate: CategoricalCovariate, allow_new: bool = False) -> np.ndarray:
    """Code of every cell, ``(N,)``, int64; with ``allow_new`` -1 for what the model does not know.

    Raises
    ------
    InputError
        If a cell has no value, or one that the model was not registered with.
    """
    _check_no_gaps(column)
    codes, distinct = pd.factorize(column.values)
    names = [text_of(value) for value in distinct]
    lookup = pd.Index(covariate.categories).get_indexer(pd.Index(names))
    unseen = [name for name, code in zip(names, lookup, strict=True) if code < 0]
    if unseen and not allow_new:
        raise InputError(
            f"`{column.role}`: column {column.key!r} has categories the model was not registered with: "
            f"{shown(unseen)}. {did_you_mean(unseen[0], covariate.categories)} Keep the cells of the others: "
            f"`mdata = mdata[~{column.code}.astype(str).isin({unseen[:20]}).to_numpy()].copy()`."
        )
    return lookup[codes].astype(np.int64)


def warn_single_cells(codes: np.ndarray, covariate: CategoricalCovariate) -> None:
    """Warn of categories with one cell: their effect cannot be told from that cell."""
    counts = np.bincount(codes, minlength=len(covariate.categories))
    single = [name for name, count in zip(covariate.categories, counts, strict=True) if count == 1]
    if single:
        warn(
            f"Column {covariate.key!r} has categories with a single cell: {shown(single)}. Their effect "
            "cannot be told from the cell itself; merge them with others."
        )


def warn_confounded(codes: np.ndarray, present: np.ndarray, covariate: CategoricalCovariate) -> None:
    """Warn if each batch has one set of modalities and the sets differ.

    Parameters
    ----------
    codes
        Batch of each cell, ``(N,)``.
    present
        ``(N, M)``, bool.
    """
    pairs = np.unique(np.column_stack([codes, present]), axis=0)  # (n_pairs, 1 + M)
    patterns = np.unique(pairs[:, 1:], axis=0)
    if len(pairs) == len(covariate.categories) and len(patterns) > 1:
        warn(
            f"Batch {covariate.key!r} decides which modalities a cell has: {len(patterns)} sets of "
            f"modalities in {len(pairs)} batches, one set in each. The effect of a batch cannot be told "
            "from that of its missing modalities."
        )


def text_of(value: object) -> str:
    """Name of a category: 1, 1.0 and "1" are the same one, as files may turn one into another."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _is_measurement(distinct: pd.Index, n_cells: int) -> bool:
    return len(distinct) > min(_MAX_FLOAT_CATEGORIES, max(2, n_cells // 3))


def _check_no_gaps(column: Column) -> None:
    gaps = column.values.isna().to_numpy()
    if gaps.any():
        filled = column.mended('.astype(object).fillna("unknown")')
        raise InputError(
            f"`{column.role}`: column {column.key!r} has no value for {int(gaps.sum())} of {len(gaps)} "
            f"cells: {shown(column.values.index[gaps])}. Fill it: {filled}."
        )


def numbers_of(column: Column, needed: np.ndarray | None = None) -> np.ndarray:
    """A column as finite float64 numbers, ``(N,)``; 1 for cells that are not ``needed``.

    Raises
    ------
    InputError
        If it is not numeric, or a needed value is missing or infinite.
    """
    dtype = column.values.dtype
    if not pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_complex_dtype(dtype):
        numeric = f"`mdata.obs[{column.key!r}] = pd.to_numeric({column.code})`"
        raise InputError(
            f"`{column.role}`: column {column.key!r} has dtype {dtype}, not numbers. Convert it: {numeric}, "
            "or name it in `categorical_covariate_keys`."
        )
    values = column.values.to_numpy(dtype=np.float64, na_value=np.nan)
    if needed is not None:
        values = np.where(needed, values, 1.0)
    bad = ~np.isfinite(values)
    if bad.any():
        middle = float(np.median(values[~bad])) if not bad.all() else 0.0
        filled = column.mended(f".replace([np.inf, -np.inf], np.nan).fillna({middle:g})")
        raise InputError(
            f"`{column.role}`: column {column.key!r} is {values[bad][0]:g} for {int(bad.sum())} of "
            f"{len(bad)} cells: {shown(column.values.index[bad])}. Fill it, here with the median: {filled}."
        )
    return values


def standardisation_of(values: np.ndarray, key: str) -> ContinuousCovariate:
    """Mean and standard deviation; a constant column gets sd 1, with a warning."""
    mean, sd = float(values.mean()), float(values.std())
    if sd <= 1e-12 * max(1.0, abs(mean)):
        warn(f"Continuous covariate {key!r} is {mean:g} in every cell; it can explain nothing. Leave it out.")
        sd = 1.0
    return ContinuousCovariate(key, mean, sd)


def standardised(
    values: Sequence[np.ndarray], covariates: Sequence[ContinuousCovariate], n: int
) -> np.ndarray:
    """(x − mean) / sd, ``(N, n_continuous)``, float32."""
    result = np.empty((n, len(covariates)), dtype=np.float32)
    for column, (raw, covariate) in enumerate(zip(values, covariates, strict=True)):
        result[:, column] = (raw - covariate.mean) / covariate.sd
    return result


def size_factors(mdata: Any, key: str, needed: np.ndarray) -> np.ndarray:
    """Size factor of every cell that needs one, positive; 1 for the others: ``(N,)``, float64.

    Parameters
    ----------
    needed
        Cells that have a modality with a depth, ``(N,)``, bool.
    """
    column = find_column(mdata, key, "size_factor_key")
    values = numbers_of(column, needed)
    bad = values <= 0
    if bad.any():
        raise InputError(
            f"`size_factor_key`: column {key!r} must be positive, but is {values[bad][0]:g} for "
            f"{int(bad.sum())} cells: {shown(column.values.index[bad])}. Drop them: "
            f"`mdata = mdata[({column.code} > 0).to_numpy()].copy()`."
        )
    return values
