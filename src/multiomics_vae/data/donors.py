"""Whose the cells are, and what is known of a donor as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from multiomics_vae.data.columns import LOOKS_MISSING, find_column, text_of
from multiomics_vae.data.dataset import Labels, MultimodalData
from multiomics_vae.data.outcomes import outcome_values
from multiomics_vae.data.schema import OutcomeSchema, Schema
from multiomics_vae.errors import InputError

ROLE = "donor_key"


def read_labels(mdata: Any, schema: Schema, donor_needed: bool = False) -> Labels | None:
    """Donors and outcomes of all cells, as a schema describes them; None if it has neither.

    Parameters
    ----------
    mdata
        The cells. Columns of outcomes may be absent.
    schema
        What was registered.
    donor_needed
        Refuse a MuData without the column of donors; otherwise nothing is known of them then.
    """
    if schema.donor_key is None and not schema.outcomes:
        return None
    donor = np.full(mdata.n_obs, -1, dtype=np.int64)
    names: tuple[str, ...] = ()
    if schema.donor_key is not None:
        known = schema.donor_key in mdata.obs.columns or any(
            schema.donor_key.removeprefix(f"{name}:") in adata.obs.columns
            for name, adata in mdata.mod.items()
        )
        if donor_needed or known:
            donor, names = donor_codes(mdata, schema.donor_key)
    return Labels(donor, names, outcome_values(mdata, schema.outcomes, schema.unlabelled))


def donor_codes(mdata: Any, key: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes ``(N,)``, -1 where the donor is not known, and the donors' names, sorted."""
    values = find_column(mdata, key, ROLE).values
    texts = [None if pd.isna(value) else text_of(value) for value in values]
    named = [None if text is None or text in LOOKS_MISSING else text for text in texts]
    names = tuple(sorted({text for text in named if text is not None}))
    if not names:
        raise InputError(
            f"`{ROLE}`: column {key!r} names no donor for any cell. Name another: "
            'MultiVAE.setup_mudata(mdata, donor_key="donor")'
        )
    codes = pd.Index(names).get_indexer(pd.Index(named, dtype=object)).astype(np.int64)
    return codes, names


def donor_outcomes(data: MultimodalData, outcome: OutcomeSchema) -> np.ndarray:
    """What is known of each donor: ``(n_donors, n_columns)``, float32, NaN where no cell of it says.

    Raises
    ------
    InputError
        Naming a donor whose cells contradict one another.
    """
    labels = _labels(data)
    values = labels.outcomes[:, data.schema.label_columns(outcome.name)]  # (N, n_columns)
    found = np.full((len(labels.donor_names), values.shape[1]), np.nan, np.float32)
    known = (labels.donor >= 0) & ~np.isnan(values).any(axis=1)
    found[labels.donor[known]] = values[known]
    differs = known.copy()
    differs[known] = (values[known] != found[labels.donor[known]]).any(axis=1)
    if differs.any():
        code = labels.donor[differs][0]
        own = np.flatnonzero((labels.donor == code) & known)
        other = own[(values[own] != values[own[0]]).any(axis=1)][0]
        first, second = (str(data.cell_names[cell]) for cell in (own[0], other))
        raise InputError(
            f"The outcome {outcome.name!r} differs between cells of donor {labels.donor_names[code]!r}, such "
            f"as {first!r} and {second!r}, so it is no outcome of donors. Predict it of cells: "
            f"heads={{{outcome.name!r}: Head(level='cell')}}; or look at it: "
            f"`mdata.obs.groupby({data.schema.donor_key!r})[{outcome.keys[0]!r}].unique()`."
        )
    return found


def is_of_donors(data: MultimodalData, outcome: OutcomeSchema) -> bool:
    """Whether an outcome says nothing but whose a cell is: one value a donor, of two donors or more.

    It then can be learned by recognising the donor, and cells of one donor may not stand on both sides of a
    split.
    """
    labels = data.labels
    if labels is None or not labels.donor_names:
        return False
    try:
        values = donor_outcomes(data, outcome)
    except InputError:
        return False
    return int((~np.isnan(values).any(axis=1)).sum()) >= 2


def _labels(data: MultimodalData) -> Labels:
    if data.labels is None or data.schema.donor_key is None:
        raise InputError(
            "Donors are not known, because no column was named that tells them: "
            'MultiVAE.setup_mudata(mdata, donor_key="donor", outcomes={"response": "binary"})'
        )
    return data.labels
