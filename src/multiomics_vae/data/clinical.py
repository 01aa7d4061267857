"""What is known of patients as modalities of their own, so that a patient without cells can be predicted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multiomics_vae.data.columns import LOOKS_MISSING, find_column, text_of
from multiomics_vae.errors import InputError, did_you_mean, warn

if TYPE_CHECKING:
    from mudata import MuData

NUMBERS, CATEGORIES = "clinical", "clinical_categories"
KEY = "categories"


def with_clinical(
    mdata: MuData,
    columns: Sequence[str] | None = None,
    *,
    patients: pd.DataFrame | None = None,
    like: MuData | None = None,
) -> MuData:
    """A new MuData in which columns of obs are modalities, which a cell has beside its measurements.

    Numbers become ``"clinical"``, to be modelled as ``gaussian``, everything else ``"clinical_categories"``,
    codes to be modelled as ``categorical``. What is missing in a column is not observed, and a cell for which
    everything is missing lacks the modality. Patients without cells become observations that have nothing
    else. Matrices of the other modalities are shared, not copied.

    Parameters
    ----------
    mdata
        The cells. Never changed.
    columns
        Columns of obs, of numbers or categories, none of them what is to be predicted. None with ``like``.
    patients
        Patients without cells: a table by name, with these columns; what else it has (a donor, a batch)
        becomes columns of obs.
    like
        A MuData that this function has returned: its columns, with the same codes. For new patients of a
        model. Categories that it does not have are not observed, with a warning.

    Returns
    -------
    MuData
        To be set up with ``likelihoods={"clinical": "gaussian", "clinical_categories": "categorical"}``
        beside those of the others, as far as there are columns of the kind.

    Raises
    ------
    InputError
        For unknown columns, names of patients that are names of cells, and columns without any value.

    Examples
    --------
    >>> mdata = with_clinical(mdata, ["age", "sex"])                          # doctest: +SKIP
    >>> new = with_clinical(new, like=mdata, patients=pd.read_csv("new.csv", index_col=0))  # doctest: +SKIP
    """
    import anndata
    import mudata as md

    known = _known_columns(like) if like is not None else None
    wanted = _wanted(mdata, columns, known)
    obs = _with_patients(mdata, wanted, patients)
    numbers, codes, names = _split(obs, wanted, known)
    parts: dict[str, Any] = {name: mdata.mod[name] for name in mdata.mod}
    for name, table in ((NUMBERS, numbers), (CATEGORIES, codes)):
        if name in parts:
            raise InputError(
                f"The MuData has a modality {name!r} already. Begin with one that has not: "
                f"mdata = mudata.MuData({{name: mdata[name] for name in mdata.mod if name != {name!r}}})"
            )
        if table.shape[1]:
            kept = table.notna().any(axis=1).to_numpy()
            parts[name] = anndata.AnnData(
                table.to_numpy(dtype=np.float32)[kept],
                obs=pd.DataFrame(index=table.index[kept]),
                var=pd.DataFrame(index=table.columns.astype(str)),
            )
    if CATEGORIES in parts:
        parts[CATEGORIES].uns[KEY] = {key: list(found) for key, found in names.items()}
    state = random.getstate()
    with md.set_options(pull_on_update=False):
        result = md.MuData(parts)
        random.setstate(state)  # MuData names temporary columns with Python's global generator
        result.obs = obs.reindex(result.obs_names)
    return result


def _known_columns(like: MuData) -> dict[str, tuple[str, ...] | None]:
    """Columns of an earlier MuData: their categories, or None for numbers."""
    found: dict[str, tuple[str, ...] | None] = {}
    if NUMBERS in like.mod:
        found |= dict.fromkeys(map(str, like.mod[NUMBERS].var_names))
    if CATEGORIES in like.mod:
        adata = like.mod[CATEGORIES]
        named = adata.uns.get(KEY, {})
        found |= {str(key): tuple(map(str, named.get(key, ()))) for key in adata.var_names}
    if not found or () in found.values():
        raise InputError(
            "`like` has no clinical modality that with_clinical made. Give what it returned for the cells of "
            "the model: with_clinical(new, like=mdata)"
        )
    return found


def _wanted(
    mdata: MuData, columns: Sequence[str] | None, known: dict[str, tuple[str, ...] | None] | None
) -> list[str]:
    if isinstance(columns, str):
        raise InputError(f"columns must be a list: columns=[{columns!r}]")
    if known is not None:
        if columns is not None and set(columns) != set(known):
            raise InputError(f"`like` says which columns: {list(known)}. Leave `columns` out.")
        return list(known)
    if not columns:
        raise InputError(f"Name the columns. {did_you_mean('', mdata.obs.columns)}")
    return list(dict.fromkeys(columns))


def _with_patients(mdata: MuData, wanted: list[str], patients: pd.DataFrame | None) -> pd.DataFrame:
    """Columns of obs, the wanted ones found wherever they are, and a row for every patient without cells."""
    obs: pd.DataFrame = mdata.obs.copy()
    for key in wanted:
        if key not in obs:
            obs[key] = find_column(mdata, key, "columns").values
    if patients is None:
        return obs
    rows = patients.copy()
    rows.index = rows.index.map(str)
    for key in wanted:
        if key not in rows:
            raise InputError(
                f"`patients` has no column {key!r}. {did_you_mean(key, rows.columns)} If it is not known of "
                f"any: patients[{key!r}] = np.nan"
            )
    double = rows.index[rows.index.isin(obs.index) | rows.index.duplicated()]
    if len(double):
        raise InputError(
            f"`patients` names {double[0]!r}, which is the name of a cell or of another patient. Give them "
            'other names: patients.index = "patient " + patients.index.astype(str)'
        )
    # Categories of both survive only where they are the same; texts are recoded below.
    shared = [key for key in obs if key in rows and isinstance(obs[key].dtype, pd.CategoricalDtype)]
    same = {key: obs[key].dtype for key in shared if obs[key].dtype == rows[key].dtype}
    obs, rows = (table.astype(dict.fromkeys(set(shared) & set(table), object)) for table in (obs, rows))
    joined: pd.DataFrame = pd.concat([obs, rows]).astype(same)
    return joined


def _split(
    obs: pd.DataFrame, wanted: list[str], known: dict[str, tuple[str, ...] | None] | None
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, tuple[str, ...]]]:
    """Numbers, codes, and the categories of the codes."""
    numbers, codes = pd.DataFrame(index=obs.index), pd.DataFrame(index=obs.index)
    names: dict[str, tuple[str, ...]] = {}
    for key in wanted:
        values = obs[key]
        if known is None and values.isna().all():
            raise InputError(f"Column {key!r} has no value for anybody. Leave it out of `columns`.")
        is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        categories = _categories(values) if known is None else known[key]
        if is_number if known is None else categories is None:
            numbers[key] = pd.to_numeric(values).astype(float)
            continue
        assert categories is not None
        names[key] = categories
        codes[key] = _codes(values, categories, key)
    return numbers, codes, names


def _categories(values: pd.Series) -> tuple[str, ...]:
    there = values.dropna()
    if isinstance(there.dtype, pd.CategoricalDtype):
        found = [text_of(value) for value in there.cat.remove_unused_categories().cat.categories]
    else:
        found = sorted({text_of(value) for value in there})
    return tuple(name for name in dict.fromkeys(found) if name not in LOOKS_MISSING)


def _codes(values: pd.Series, categories: tuple[str, ...], key: str) -> np.ndarray:
    texts = [None if pd.isna(value) else text_of(value) for value in values]
    codes = pd.Index(categories).get_indexer(pd.Index(texts, dtype=object)).astype(float)
    unseen = sorted(
        {
            text
            for text, code in zip(texts, codes, strict=True)
            if code < 0 and text is not None and text not in LOOKS_MISSING
        }
    )
    if unseen:
        warn(
            f"Column {key!r} has {unseen[0]!r}, which `like` does not have; it counts as not observed. "
            f"{did_you_mean(unseen[0], categories)}"
        )
    return np.where(codes < 0, np.nan, codes)
