"""Groups of cells within which batches are compared: read from obs, never shown to encoders or decoders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from multiomics_vae.data.columns import find_column
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.errors import InputError

UNKNOWN_STRATA = ("", "nan", "NaN", "NA", "unknown", "unlabelled", "unlabeled", "Misc/unknown")


def strata_of(mdata: Any, key: str) -> np.ndarray:
    """Code of each cell's group, ``(N,)``, int64, in sorted order of the names; -1 where it is not known.

    Parameters
    ----------
    mdata
        The cells.
    key
        Column of obs. A missing value and the names in `UNKNOWN_STRATA` mean that nobody knows.

    Raises
    ------
    InputError
        If there is no such column.

    Examples
    --------
    >>> strata_of(mdata, "cell_type")                      # doctest: +SKIP
    array([ 2,  0, -1])
    """
    values = find_column(mdata, key, "conditional_on").values
    names = values.astype(object).map(str, na_action="ignore")
    known = names.notna() & ~names.isin(UNKNOWN_STRATA)
    codes, _ = pd.factorize(names.where(known, None), sort=True)
    return np.asarray(codes, dtype=np.int64)


def with_strata(data: MultimodalData, mdata: Any, key: str | None, needed: bool = True) -> MultimodalData:
    """Add the groups of the cells that were read from ``mdata``.

    Parameters
    ----------
    data, mdata
        The registered cells, and where they come from.
    key
        Column of obs; None for no groups.
    needed
        False if cells without such a column are to be taken without groups.

    Raises
    ------
    InputError
        If there is no such column and it is needed.
    """
    if key is None:
        return data
    try:
        return replace(data, strata=strata_of(mdata, key))
    except InputError:
        if needed:
            raise
        return data
