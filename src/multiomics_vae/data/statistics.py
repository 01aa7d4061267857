"""Feature statistics of some cells: what output biases and input transforms start from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch

from multiomics_vae.data.dataset import ModalityData, MultimodalData
from multiomics_vae.data.entries import maximum, minimum, over_entries, overdispersion, sum_over_rows
from multiomics_vae.data.stored import take_rows
from multiomics_vae.data.stored_statistics import stored_statistics
from multiomics_vae.likelihoods import LIKELIHOODS, FeatureStatistics

CELLS_AT_ONCE = 4_096


def feature_statistics(data: MultimodalData, modality: int, cells: np.ndarray) -> FeatureStatistics:
    """Summarise one modality over some cells.

    Parameters
    ----------
    data
        The registered cells.
    modality
        Position of the modality in the schema.
    cells
        Positions of the cells to use (the training cells), ``(n,)``; those without the modality are
        passed over.

    Returns
    -------
    FeatureStatistics
        Tensors of float32.
    """
    table = data.modalities[modality]
    cells = cells[table.row_of_cell[cells] >= 0]
    batch = data.batch[cells]
    n_batches = data.schema.n_batches
    if table.on_disk:
        found = stored_statistics(table, cells, batch, n_batches)
    else:
        found = _statistics_in_memory(table, cells, batch, n_batches)
    if LIKELIHOODS[data.schema.modalities[modality].likelihood].support == "codes":
        found = replace(found, category_frequency=_category_frequency(table, cells, found.n_categories))
    return found


def _statistics_in_memory(
    table: ModalityData, cells: np.ndarray, batch: np.ndarray, n_batches: int
) -> FeatureStatistics:
    rows = table.row_of_cell[cells]
    depth = table.depth[rows].astype(np.float64)
    values = take_rows(table.values, rows)
    observed = None if table.observed is None else table.observed[rows]
    n = _count(observed, len(rows), values.shape[1])

    total = sum_over_rows(values)
    mean = total / n
    variance = _variance(values, mean, n)
    nonzero = sum_over_rows(over_entries(values, lambda v: (v > 0).astype(np.float32)))
    logs = over_entries(values, np.log1p) if minimum(values) >= 0 else over_entries(values, np.zeros_like)
    log_mean, log_sd = _per_batch(logs, observed, batch, n_batches)

    return FeatureStatistics(
        n_features=values.shape[1],
        n_batches=n_batches,
        mean=_tensor(mean),
        variance=_tensor(variance),
        nonzero_fraction=_tensor(nonzero / n),
        mean_frequency=_tensor(total / max(depth.sum(), 1.0)),
        overdispersion=_tensor(_overdispersion(values, total / max(depth.sum(), 1.0), depth)),
        methylated_fraction=_tensor(_methylated_fraction(table, rows, total)),
        n_categories=torch.as_tensor(maximum(values) + 1.0).to(torch.int64),
        log1p_mean=_tensor(log_mean),
        log1p_sd=_tensor(log_sd),
        mean_log_depth=float(np.log(depth).mean()) if len(depth) else 0.0,
        has_unobserved=table.observed is not None,
    )


def _overdispersion(
    values: sp.csr_matrix | np.ndarray, frequency: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    squares = sum_over_rows(over_entries(values, lambda v: np.square(v, dtype=np.float64)))  # (F,)
    crossed = np.asarray(depth @ values).ravel()  # (F,)
    return overdispersion(squares, crossed, sum_over_rows(values), frequency, (depth**2).sum())


def _category_frequency(table: ModalityData, cells: np.ndarray, n_categories: torch.Tensor) -> torch.Tensor:
    """Share of each category of each feature, one pseudo-cell spread over its categories: ``(F, C)``."""
    sizes = n_categories.clamp(min=1).numpy()  # (F,)
    possible = np.arange(sizes.max()) < sizes[:, None]  # (F, C)
    counts = possible / sizes[:, None]
    for start in range(0, len(cells), CELLS_AT_ONCE):
        chunk = table.loaded(cells[start : start + CELLS_AT_ONCE])
        codes = np.asarray(
            chunk.values.todense() if sp.issparse(chunk.values) else chunk.values, dtype=np.int64
        )
        measured = np.ones(codes.shape) if chunk.observed is None else chunk.observed.astype(np.float64)
        features = np.broadcast_to(np.arange(len(sizes)), codes.shape)
        np.add.at(counts, (features, codes), measured)
    return _tensor(counts / counts.sum(axis=1, keepdims=True))


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.asarray(array, dtype=np.float32))


def _count(observed: np.ndarray | None, n_rows: int, n_features: int) -> np.ndarray:
    n = np.full(n_features, n_rows) if observed is None else observed.sum(axis=0)
    return np.asarray(np.maximum(n, 1), dtype=np.float64)  # (F,)


def _variance(values: sp.csr_matrix | np.ndarray, mean: np.ndarray, n: np.ndarray) -> np.ndarray:
    # Squares in float64: in float32 a constant 2.3 would have a variance, and so would any large mean.
    squares = sum_over_rows(over_entries(values, lambda v: np.square(v, dtype=np.float64)))
    return np.asarray(np.maximum(squares / n - mean**2, 0.0))  # (F,)


def _per_batch(
    logs: sp.csr_matrix | np.ndarray, observed: np.ndarray | None, batch: np.ndarray, n_batches: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per batch; a batch without cells takes the whole's: ``(n_batches, F)``."""
    mean = np.empty((n_batches, logs.shape[1]))
    sd = np.empty_like(mean)
    everything = np.ones(len(batch), dtype=bool)
    for code in range(n_batches):
        chosen = batch == code
        rows = chosen if chosen.any() else everything
        part = logs[rows]
        n = _count(None if observed is None else observed[rows], part.shape[0], part.shape[1])
        mean[code] = sum_over_rows(part) / n
        sd[code] = np.sqrt(_variance(part, mean[code], n))
    return mean, sd


def _methylated_fraction(table: ModalityData, rows: np.ndarray, total: np.ndarray) -> np.ndarray:
    if table.coverage is None:
        return np.zeros_like(total)
    covered = sum_over_rows(take_rows(table.coverage, rows))
    fraction = np.full_like(total, 0.5)
    np.divide(total, covered, out=fraction, where=covered > 0)
    return fraction
