"""How well a model tells one half of a cell's features from the other half.

A reconstruction that has read what it reconstructs is good for any cell. So every feature is hidden once:
the features of a modality are cut into two halves at random, the same for all cells; z is inferred from one
half and everything else that the cell has, and the other half is predicted at the mean of z.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch

from multiomics_vae.analysis.inference import infer
from multiomics_vae.analysis.memory import memory_for
from multiomics_vae.data.dataset import ModalityData, MultimodalData
from multiomics_vae.data.gaps import FeatureNorms, Gaps
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.data.stored import StoredRows
from multiomics_vae.errors import MultiomicsError
from multiomics_vae.module import MultimodalModule

SPLIT_SEED = 20_181_206
CELLS_LOADED = 2_048


def hidden_log_likelihood(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    modality: int,
    norms: FeatureNorms | None,
    n_splits: int = 1,
) -> np.ndarray:
    """Log p(half of x_m | E[z | the other half, all other modalities]), summed over both halves.

    Parameters
    ----------
    module, data, cells, batch_size
        The model, the cells, the positions wanted.
    modality
        m; a modality of one feature cannot be cut.
    norms
        Of m, as `feature_norms` found them; None for real values and codes.
    n_splits
        Cuts that are averaged over.

    Returns
    -------
    ndarray
        ``(N,)``, nats; NaN where a cell lacks the modality.
    """
    found = np.full(len(cells), np.nan)
    having = np.flatnonzero(data.modalities[modality].row_of_cell[cells] >= 0)
    halves = halves_of(module.likelihoods[modality].n_features, n_splits)
    with memory_for(batch_size):
        for start in range(0, len(having), CELLS_LOADED):
            places = having[start : start + CELLS_LOADED]
            loaded = data.loaded(cells[places])
            found[places] = 0.0
            for shown in halves:
                values = _predicted(module, loaded, batch_size, modality, shown, norms)
                found[places] += values / max(n_splits, 1)
    return found


def halves_of(n_features: int, n_splits: int) -> list[np.ndarray]:
    """Both halves of so many random cuts of the features, ``(F,)`` each, bool; none of a single feature."""
    generator = np.random.default_rng(SPLIT_SEED)
    halves = []
    for _ in range(n_splits if n_features > 1 else 0):
        first = np.zeros(n_features, dtype=bool)
        first[generator.permutation(n_features)[: n_features // 2]] = True
        halves += [first, ~first]
    return halves


def _predicted(
    module: MultimodalModule,
    data: MultimodalData,
    batch_size: int,
    modality: int,
    shown: np.ndarray,
    norms: FeatureNorms | None,
) -> np.ndarray:
    """Log likelihood of what is not shown, given what is: ``(N,)``."""
    part, counted = data.modalities[modality], data.schema.modalities[modality].depth_from_values
    seen, target = (showing_features(part, mask, norms, counted) for mask in (shown, ~shown))
    evidence = with_modality(data, modality, seen)
    wanted = with_modality(data, modality, target)
    device = next(module.parameters()).device
    values = []
    for inferred in infer(module, evidence, np.arange(data.n_cells), batch_size):
        batch = make_minibatch(wanted, inferred.minibatch.cells.cpu().numpy()).modalities[modality].to(device)
        z = inferred.fused.posterior.mean.unsqueeze(0)  # (1, B, K)
        each = module.log_likelihood(modality, batch, z, inferred.minibatch.covariates).per_cell[0]
        values.append(each.double().cpu().numpy())
    return np.concatenate(values)


def with_modality(data: MultimodalData, modality: int, part: ModalityData) -> MultimodalData:
    """The same cells with another table of one modality."""
    parts = list(data.modalities)
    parts[modality] = part
    return replace(data, modalities=tuple(parts))


def showing_features(
    part: ModalityData, mask: np.ndarray, norms: FeatureNorms | None, counted: bool
) -> ModalityData:
    """A modality as if only some of its features had been measured.

    Parameters
    ----------
    part
        Of cells in memory.
    mask
        The features, ``(F,)``, bool.
    norms
        As `feature_norms` found them; None for real values and codes.
    counted
        True if depth is the sum of a cell, so that it must do without the others.
    """
    if isinstance(part.values, StoredRows) or isinstance(part.coverage, StoredRows):
        raise MultiomicsError("These values are not in memory: data = data.loaded(cells)")
    values, coverage = _masked(part.values, mask), part.coverage
    if coverage is not None:  # what is not covered says nothing
        return replace(part, values=values, coverage=_masked(coverage, mask))
    if norms is None:
        everything = np.ones(part.values.shape, dtype=bool)
        observed = (everything if part.observed is None else part.observed) & mask
        return replace(part, values=values, observed=observed)
    measured = mask if part.gaps is None else mask & part.gaps.measured.numpy()
    gaps = Gaps(torch.from_numpy(measured), norms)
    if not counted:  # a registered size factor is that of the whole cell
        return replace(part, values=values, gaps=gaps)
    sums = np.asarray(values.sum(axis=1, dtype=np.float64)).ravel()  # (N_m,)
    depth = np.maximum(sums, 1.0) / gaps.kept_share
    return replace(part, values=values, depth=depth.astype(np.float32), gaps=gaps)


def _masked(values: sp.csr_matrix | np.ndarray, mask: np.ndarray) -> sp.csr_matrix | np.ndarray:
    if isinstance(values, np.ndarray):
        return np.where(mask, values, np.float32(0))
    kept = values.copy()
    kept.data = np.where(mask[kept.indices], kept.data, np.float32(0))
    kept.eliminate_zeros()
    return kept
