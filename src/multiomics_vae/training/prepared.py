"""What can be worked out once for a whole training, instead of at every visit of a cell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.module import MultimodalModule

CELLS_AT_ONCE = 128


def with_encoder_inputs(data: MultimodalData, module: MultimodalModule, cells: np.ndarray) -> MultimodalData:
    """Project the cells of modalities whose encoders read a fixed projection.

    Transform and projection have nothing to learn, so a cell's few numbers are the same in every pass.
    Values on disk are left alone: reading them all in advance would be a pass of its own.

    Parameters
    ----------
    data
        Registered cells.
    module
        The model, whose encoders are asked.
    cells
        Those that will be visited, ``(n,)``; the others get no numbers.

    Returns
    -------
    MultimodalData
        The same cells; ``encoder_inputs`` are set where they can be.
    """
    if data.on_disk:
        return data
    device = next(module.parameters()).device
    tables = list(data.modalities)
    for m, part in enumerate(module.parts):
        projection = part.encoder.projection
        if projection is None:
            continue
        table = tables[m]
        inputs = np.full((len(table.depth), projection.n_outputs), np.nan, np.float32)
        there = cells[table.row_of_cell[cells] >= 0]
        for start in range(0, len(there), CELLS_AT_ONCE):
            here = there[start : start + CELLS_AT_ONCE]
            batch = make_minibatch(data, here).modalities[m].to(device)
            with torch.no_grad():
                inputs[table.row_of_cell[here]] = part.encoder.projected(batch).cpu().numpy()
        tables[m] = replace(table, encoder_inputs=inputs)
    return replace(data, modalities=tuple(tables))
