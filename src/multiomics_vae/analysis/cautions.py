"""What a person should be told about an answer: cells without evidence, batches without data."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.selection import select_modalities
from multiomics_vae.errors import InputError, warn


def given_modalities(
    data: MultimodalData, cells: np.ndarray, modalities: Iterable[str] | None
) -> tuple[int, ...] | None:
    """Positions of the modalities to condition on; warn of cells that have none of them."""
    given = select_modalities(data.schema, modalities)
    if given is not None:
        n_without = int((~data.present[cells][:, list(given)].any(axis=1)).sum())
        if n_without:
            names = [data.schema.modality_names[m] for m in given]
            warn(
                f"{n_without} of {len(cells)} cells have none of the modalities {names}: they get the prior."
            )
    return given


def required_modalities(
    data: MultimodalData, cells: np.ndarray, given: Iterable[str] | None
) -> tuple[int, ...] | None:
    """Positions of the modalities to answer from; refuse cells that have none of them.

    Where `given_modalities` describes what is known of a cell, which may be nothing, this is for values:
    those of a cell without evidence would say nothing of it.

    Raises
    ------
    InputError
        For a name that is no modality, an empty list, and cells without evidence.
    """
    chosen = select_modalities(data.schema, given, "given")
    if chosen is None:
        return None
    without = cells[~data.present[cells][:, list(chosen)].any(axis=1)]
    if len(without):
        names = [data.schema.modality_names[m] for m in chosen]
        having = " | ".join(f"mdata.obs_names.isin(mdata[{name!r}].obs_names)" for name in names)
        raise InputError(
            f"{len(without)} of {len(cells)} cells have none of given={names} (the first is "
            f"{str(data.cell_names[without[0]])!r}), so nothing says what is in them. Ask about the others: "
            f"indices={having}"
        )
    return chosen


def warn_of_unseen_batches(
    data: MultimodalData, cells: np.ndarray, modality: int, learned: MultimodalData | None = None
) -> None:
    """Warn of cells decoded as a batch that never showed the modality, so that its effect is unknown.

    ``learned`` are the cells that the model learned from, if these are others.
    """
    if data.schema.batch is None:
        return
    source = learned or data
    seen = np.unique(source.batch[source.present[:, modality]])
    unseen = np.setdiff1d(data.batch[cells], seen)
    if len(unseen):
        names = [data.schema.batch.categories[code] for code in unseen]
        known = [data.schema.batch.categories[code] for code in seen]
        warn(
            f"No cell of the batches {names} has {data.schema.modality_names[modality]!r}, so their effect "
            f"on it is unknown. Decode as batches that have it: transform_batch={known}"
        )
