"""MULTIVI with its defaults, imputing peaks from RNA and genes from ATAC; run in a process of its own.

It takes its defaults, stopped by its own early stopping or at the cap of CPU time. Held-out cells are not
registered: their z is the mean of the one encoder's output, their values what the other decoder makes of it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import mudata as md
import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from imputation_baselines import paired_names
from imputation_tasks import ImputationTask
from peer_multivi import embed, fit_multivi

if TYPE_CHECKING:
    from scvi.model import MULTIVI

RIDGE = 1.0
Floats = NDArray[np.floating]


def one_depth(task: ImputationTask, cap_seconds: float) -> tuple[Floats, str]:
    """Probability of a peak, or log(1 + 10 000 times a gene's share), at a depth common to all cells."""
    model, note = _of_task(task, cap_seconds)
    values = _decode(model, task.target, embed(model, task.given, task.test[task.given].X))
    return values if task.kind == "binary" else np.log1p(1e4 * values), note


def predicted_depth(task: ImputationTask, cap_seconds: float) -> tuple[Floats, str]:
    """The same at the depth that a ridge regression on z and the given depth lets one expect.

    This is what MultiVAE does for itself, done for the peer: without it the two could not be compared,
    because the score of what was measured rewards knowing the depth.
    """
    model, note = _of_task(task, cap_seconds)
    names = paired_names(task)
    given, target = (sp.csr_matrix(task.train[name][names].X) for name in (task.given, task.target))
    held_out = sp.csr_matrix(task.test[task.given].X)
    z, z_new = (embed(model, task.given, x) for x in (given, held_out))
    log_depth = _log_depth(target, task.kind)
    expected = _ridge(
        np.column_stack([z, _log_depth(given, "binary" if task.given == "atac" else "counts")]),
        log_depth,
        np.column_stack([z_new, _log_depth(held_out, "binary" if task.given == "atac" else "counts")]),
    )
    values = _decode(model, task.target, z_new)
    if task.kind == "binary":
        values = np.clip(values, 1e-7, 1 - 1e-7)
        return np.log(values / (1 - values)) + (expected - log_depth.mean())[:, None], note
    return np.log1p(values * np.exp(expected)[:, None]), note


def _log_depth(x: sp.csr_matrix, kind: str) -> NDArray[np.float64]:
    x = x > 0 if kind == "binary" else x
    return np.log(np.maximum(np.asarray(x.sum(1), dtype=np.float64).ravel(), 1))


def _ridge(x: Floats, y: Floats, x_new: Floats) -> NDArray[np.float64]:
    middle, scale = x.mean(0), np.maximum(x.std(0), 1e-6)
    inputs = (x - middle) / scale
    slope = np.linalg.solve(inputs.T @ inputs + RIDGE * np.eye(x.shape[1]), inputs.T @ (y - y.mean()))
    return y.mean() + ((x_new - middle) / scale) @ slope


@torch.inference_mode()
def _decode(model: MULTIVI, modality: str, z: Floats) -> Floats:
    """Peaks' probabilities or genes' shares: ``(n, F)``."""
    module, latent = model.module, torch.from_numpy(z)
    batch = torch.zeros(len(z), 1, dtype=torch.int64)
    if modality == "atac":
        return module.z_decoder_accessibility(latent, batch).numpy()
    size = torch.zeros(len(z), 1)
    return module.z_decoder_expression(module.gene_dispersion, latent, size, batch)[0].numpy()


class _Cells:
    """Carries the training cells into the cache without being part of its key."""

    def __init__(self, mdata: md.MuData) -> None:
        self.mdata = mdata

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return True


def _of_task(task: ImputationTask, cap_seconds: float) -> tuple[MULTIVI, str]:
    assert task.data_set == "snareseq_mouse_cortex"  # one training serves every question in a process
    return _fitted(_Cells(task.train), task.seed, cap_seconds)


@lru_cache(maxsize=1)
def _fitted(cells: _Cells, seed: int, cap_seconds: float) -> tuple[MULTIVI, str]:
    return fit_multivi(cells.mdata, seed, cap_seconds)
