"""With which chances a training step draws features, where it looks at some of them only."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.entries import sum_over_rows
from multiomics_vae.data.stored import take_rows
from multiomics_vae.kernels import chances_by_size
from multiomics_vae.module import ModalityParts, MultimodalModule

MOST_CELLS = 1_024  # a mean of so many is good enough for a size
SMALLEST_SIZE = 0.2  # of the mean size: what is rare here may be common in a few cells


def feature_chances(
    module: MultimodalModule, data: MultimodalData, cells: np.ndarray, n_features: int
) -> tuple[Tensor | None, ...]:
    """Chances of the features of each modality; None for a modality of which a step looks at all.

    The slope of a log likelihood by the output of a feature has the variance μ for a Poisson count, and
    p(1 − p), nearly p, for a peak that is seldom open. So the square root of a feature's mean says how much
    it contributes to a gradient, and with chances in proportion the estimated gradient varies least.

    Parameters
    ----------
    module
        What is trained.
    data, cells
        The registered cells, and positions of those that are trained on, ``(n,)``.
    n_features
        How many features of a modality a step draws on average.

    Returns
    -------
    tuple of Tensor or None
        ``(F,)`` each, on the processor.
    """
    some = cells[np.linspace(0, len(cells) - 1, min(len(cells), MOST_CELLS)).astype(np.int64)]
    return tuple(
        _chances(data, m, some, n_features) if can_draw(part, n_features) else None
        for m, part in enumerate(module.parts)
    )


def can_draw(part: ModalityParts, n_features: int) -> bool:
    """Whether drawing so many features of a modality saves anything.

    Where means are shares among features, the normaliser of all of them is needed whichever are drawn, and
    with more than half of them nothing is left to be saved.
    """
    likelihood = part.likelihood
    most = likelihood.n_features / (2 if likelihood.normalised_over_features else 1)
    return likelihood.is_fused and n_features < most


def _chances(data: MultimodalData, modality: int, cells: np.ndarray, n_features: int) -> Tensor:
    table = data.modalities[modality]
    rows = table.row_of_cell[cells]
    rows = rows[rows >= 0]
    mean = sum_over_rows(take_rows(table.values, rows)) / max(1, len(rows))  # (F,)
    sizes = np.sqrt(np.maximum(mean, 0.0))
    usual = sizes.mean()
    sizes += SMALLEST_SIZE * usual if usual > 0 else 1.0
    return chances_by_size(torch.from_numpy(sizes).float(), n_features)
