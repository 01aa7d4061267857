"""Warnings where an outcome goes together with the batch that is to be corrected."""

from __future__ import annotations

import numpy as np
import pandas as pd

from multiomics_vae.data.confounding import warn_of_label
from multiomics_vae.data.dataset import Labels, MultimodalData
from multiomics_vae.data.donors import is_of_donors
from multiomics_vae.data.schema import OutcomeSchema

THIRDS = ("lowest third", "middle third", "highest third")


def warn_of_outcomes(data: MultimodalData) -> None:
    """Warn, with a table each, of the registered outcomes that go together with the batch.

    An outcome of donors is counted in donors, another in cells. Numbers and times are compared by thirds.

    Parameters
    ----------
    data
        The registered cells. Without batches or outcomes there is nothing to say.
    """
    batch, labels = data.schema.batch, data.labels
    if batch is None or labels is None or len(batch.categories) < 2:
        return
    names = np.array(batch.categories, dtype=object)[data.batch]
    for outcome in data.schema.outcomes:
        if set(outcome.keys) == {batch.key}:
            continue
        known = ~np.isnan(labels.outcomes[:, data.schema.label_columns(outcome.name)]).any(axis=1)  # (N,)
        units = None
        if labels.donor_names and is_of_donors(data, outcome):
            known &= labels.donor >= 0
            units = labels.donor[known]
        if known.any():
            groups = _groups(data, labels, outcome, known, units)
            warn_of_label(names[known], groups, (batch.key, outcome.name), units)


def _groups(
    data: MultimodalData,
    labels: Labels,
    outcome: OutcomeSchema,
    known: np.ndarray,
    units: np.ndarray | None,
) -> np.ndarray:
    """Category of each known cell, or third in which its number lies, ``(n,)``."""
    values = labels.outcomes[known, data.schema.label_columns(outcome.name)][:, 0]  # (n,)
    if outcome.categories:
        return np.array(outcome.categories, dtype=object)[values.astype(np.int64)]
    # Thirds of donors where it is theirs: one with many cells is still one.
    each = pd.Series(values).groupby(np.arange(len(values)) if units is None else units).first()
    cuts = np.unique(np.quantile(each, [1 / 3, 2 / 3]))
    return np.array(THIRDS, dtype=object)[np.searchsorted(cuts, values, side="left")]
