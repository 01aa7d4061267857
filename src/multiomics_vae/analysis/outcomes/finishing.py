"""What heads learn from all training cells at once, when the weights are there."""

from __future__ import annotations

import numpy as np
import torch

from multiomics_vae.analysis.outcomes.scores import outcome_scores
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.module import MultimodalModule

CELLS_AT_ONCE = 512


def finish_heads(module: MultimodalModule, data: MultimodalData, cells: np.ndarray) -> None:
    """Let every head that compares rows see all training cells or donors at the mean of z.

    Parameters
    ----------
    module, data
        The trained model and its cells.
    cells
        Those that were trained on.
    """
    for reader in module.readers:
        if not reader.output.compares_rows:
            continue
        scores = outcome_scores(module, data, cells, CELLS_AT_ONCE, reader, n_samples=0)
        device = next(reader.parameters()).device
        with torch.no_grad():
            reader.output.finish(scores.at_mean.to(device), torch.from_numpy(scores.labels).to(device))
