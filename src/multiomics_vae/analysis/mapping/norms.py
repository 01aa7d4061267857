"""What the training cells show on average, to stand in where other cells lack a feature."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.gaps import FeatureNorms
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.kernels import SparseRows
from multiomics_vae.module import MultimodalModule

MOST_CELLS = 5_000
CELLS_AT_ONCE = 512


def feature_norms(
    module: MultimodalModule, data: MultimodalData, cells: np.ndarray, seed: int = 0
) -> tuple[FeatureNorms | None, ...]:
    """Average cells of each modality of counts; None for real values and codes, which are masked instead.

    Parameters
    ----------
    module, data
        The model and its cells.
    cells
        Those it was trained on, positions; at most 5 000, drawn at random, are read.
    seed
        Of that draw.
    """
    if len(cells) > MOST_CELLS:
        cells = np.sort(np.random.default_rng(seed).choice(cells, MOST_CELLS, replace=False))
    return tuple(_norms(module, data, cells, m) for m in range(module.n_modalities))


def _norms(module: MultimodalModule, data: MultimodalData, cells: np.ndarray, m: int) -> FeatureNorms | None:
    having = cells[data.modalities[m].row_of_cell[cells] >= 0]
    if module.likelihoods[m].support not in ("counts", "binary") or not len(having):
        return None
    n_features = module.likelihoods[m].n_features
    device = next(module.parameters()).device
    total, usual, square = (torch.zeros(n_features, dtype=torch.float64, device=device) for _ in range(3))
    with torch.no_grad():
        for start in range(0, len(having), CELLS_AT_ONCE):
            batch = make_minibatch(data, having[start : start + CELLS_AT_ONCE]).modalities[m].to(device)
            transformed = module.parts[m].encoder.transform(batch)
            total += _column_sums(batch.values)
            usual += _column_sums(transformed)
            square += _column_sums(_squared(transformed))
    share = total / total.sum().clamp(min=1.0)
    found = (share, usual / len(having), square / len(having))
    return FeatureNorms(*(tensor.float().cpu() for tensor in found))


def _squared(rows: Tensor | SparseRows) -> Tensor | SparseRows:
    return rows.with_values(rows.values.square()) if isinstance(rows, SparseRows) else rows.square()


def _column_sums(rows: Tensor | SparseRows) -> Tensor:
    if not isinstance(rows, SparseRows):
        return rows.double().sum(0)
    sums = torch.zeros(rows.n_features, dtype=torch.float64, device=rows.values.device)
    return sums.index_add_(0, rows.columns, rows.values.double())
