"""Cells of which some modalities are kept out of sight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from multiomics_vae.data.dataset import MultimodalData


def showing_only(data: MultimodalData, given: tuple[int, ...] | None) -> MultimodalData:
    """The same cells as if only some modalities had been measured; None keeps all.

    The others have no rows any more, so that no answer can read their values, depth or library.
    """
    if given is None:
        return data
    return replace(
        data,
        modalities=tuple(
            part if m in given else replace(part, row_of_cell=np.full_like(part.row_of_cell, -1))
            for m, part in enumerate(data.modalities)
        ),
    )
