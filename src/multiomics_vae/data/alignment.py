"""Which row of a modality belongs to which cell: paired by name, never by position.

MuData keeps positional maps (``obsmap``), which are stale as soon as a modality is reordered; they
are not read here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from multiomics_vae.data.sources import shown
from multiomics_vae.errors import InputError


def rows_by_name(cell_names: pd.Index, row_names: pd.Index) -> np.ndarray:
    """For every cell its row in a modality, -1 where the modality lacks the cell: ``(N,)``, int64.

    Parameters
    ----------
    cell_names
        All N cells.
    row_names
        ``obs_names`` of the modality, unique.

    Examples
    --------
    >>> rows_by_name(pd.Index(["a", "b", "c"]), pd.Index(["c", "a"])).tolist()
    [1, -1, 0]
    """
    return row_names.get_indexer(cell_names).astype(np.int64)


def columns_by_name(
    wanted: Sequence[str], given: pd.Index, modality: str, unit: str = "features"
) -> np.ndarray:
    """Position of every wanted feature among the given ones; extra ones are left out.

    Raises
    ------
    InputError
        If a wanted feature is missing: the share that is missing and the first names.
    """
    columns = given.get_indexer(pd.Index(wanted)).astype(np.int64)
    missing = [name for name, column in zip(wanted, columns, strict=True) if column < 0]
    if not missing:
        return columns
    share = 100.0 * len(missing) / len(wanted)
    raise InputError(
        f"mdata[{modality!r}] lacks {len(missing)} of the {len(wanted)} {unit} ({share:.0f} %) that the "
        f"model was registered with: {shown(missing)}. {_prefix_hint(missing, given, modality)}"
    )


def _prefix_hint(missing: list[str], given: pd.Index, modality: str) -> str:
    prefix = f"{modality}:"
    if missing[0].removeprefix(prefix) in given:
        return (
            f"The names differ by the prefix {prefix!r}: "
            f"`mdata[{modality!r}].var_names = {prefix!r} + mdata[{modality!r}].var_names`."
        )
    if prefix + missing[0] in given:
        return (
            f"The names differ by the prefix {prefix!r}: `mdata[{modality!r}].var_names = "
            f"mdata[{modality!r}].var_names.str.removeprefix({prefix!r})`."
        )
    return (
        f"To leave the whole modality out: `mdata = mudata.MuData({{name: data for name, data in "
        f"mdata.mod.items() if name != {modality!r}}})`."
    )


def check_every_cell_measured(cell_names: pd.Index, present: np.ndarray, modalities: Sequence[str]) -> None:
    """Refuse cells that none of the modalities measured.

    Parameters
    ----------
    cell_names
        ``(N,)``.
    present
        ``(N, M)``, bool.
    modalities
        Names of the M modalities.
    """
    lonely = cell_names[np.flatnonzero(~present.any(axis=1))]
    if not len(lonely):
        return
    if len(lonely) <= 20:
        drop = f"mdata = mdata[~mdata.obs_names.isin({[str(name) for name in lonely]})].copy()"
    else:
        kept = ", ".join(f"mdata[{name!r}].obs_names" for name in modalities)
        drop = (
            f"mdata = mdata[mdata.obs_names.isin(np.concatenate([{kept}]))].copy()` (and first drop rows "
            "that are NaN throughout: `adata = adata[~np.isnan(adata.X).all(1)].copy()"
        )
    raise InputError(
        f"{len(lonely)} of {len(cell_names)} cells have no measurement in any of the modalities "
        f"{shown(modalities)}: {shown(lonely)}. Drop them: `{drop}`."
    )
