"""Feature statistics of values on disk, added up over chunks of cells in the order of their rows."""

from __future__ import annotations

import numpy as np
import torch

from multiomics_vae.data.dataset import ModalityData
from multiomics_vae.data.entries import maximum, minimum, over_entries, overdispersion, sum_over_rows
from multiomics_vae.data.stored import StoredRows
from multiomics_vae.likelihoods import FeatureStatistics

CHUNK_BYTES = 1 << 23


def stored_statistics(
    table: ModalityData, cells: np.ndarray, batch: np.ndarray, n_batches: int
) -> FeatureStatistics:
    """Summarise one modality over some cells, as `feature_statistics` does, in one pass.

    Parameters
    ----------
    table
        The modality.
    cells
        Positions of cells that have it, ``(n,)``.
    batch
        Their batch codes, ``(n,)``.
    n_batches
        Number of batches.
    """
    n_features = table.values.shape[1]
    sums = _Sums(n_features, n_batches)
    order = np.argsort(table.row_of_cell[cells], kind="stable")
    step = max(1, int(CHUNK_BYTES / max(1.0, table.bytes_a_row)))
    for start in range(0, len(order), step):
        here = order[start : start + step]
        sums.add(table.loaded(cells[here]), batch[here])
    return sums.statistics(table.depth[table.row_of_cell[cells]].astype(np.float64), table)


class _Sums:
    """What is added up over chunks: sums of values, their squares and times depth; of logs by batch."""

    def __init__(self, n_features: int, n_batches: int) -> None:
        self.smallest = 0.0
        self.total, self.squares, self.crossed, self.nonzero, self.covered = np.zeros((5, n_features))
        self.largest = np.full(n_features, -np.inf)
        # Entries, Σ log(1 + x) and Σ log(1 + x)², by batch and feature.
        self.n, self.logs, self.log_squares = np.zeros((3, n_batches, n_features))
        self.n_cells = np.zeros(n_batches, dtype=np.int64)

    def add(self, chunk: ModalityData, batch: np.ndarray) -> None:
        """Add cells in memory."""
        values = chunk.values
        assert not isinstance(values, StoredRows)
        self.smallest = min(self.smallest, minimum(values))
        self.total += sum_over_rows(values)
        self.squares += sum_over_rows(over_entries(values, lambda v: np.square(v, dtype=np.float64)))
        self.crossed += np.asarray(chunk.depth.astype(np.float64) @ values).ravel()
        self.nonzero += sum_over_rows(over_entries(values, lambda v: (v > 0).astype(np.float32)))
        np.maximum(self.largest, maximum(values), out=self.largest)
        if chunk.coverage is not None:
            assert not isinstance(chunk.coverage, StoredRows)
            self.covered += sum_over_rows(chunk.coverage)
        logs = over_entries(values, lambda v: np.log1p(np.maximum(v, 0)))
        for code in np.unique(batch):
            rows = batch == code
            part = logs[rows]
            self.n_cells[code] += part.shape[0]
            self.n[code] += rows.sum() if chunk.observed is None else chunk.observed[rows].sum(axis=0)
            self.logs[code] += sum_over_rows(part)
            self.log_squares[code] += sum_over_rows(
                over_entries(part, lambda v: np.square(v, dtype=np.float64))
            )

    def statistics(self, depth: np.ndarray, table: ModalityData) -> FeatureStatistics:
        """Means and variances from the sums; ``depth`` of all cells that were added, ``(n,)``."""
        n = np.maximum(self.n.sum(axis=0), 1.0)  # (F,)
        mean = self.total / n
        if self.smallest < 0:
            self.logs[:], self.log_squares[:] = 0.0, 0.0
        log_mean, log_sd = self._by_batch()
        frequency = self.total / max(depth.sum(), 1.0)
        fraction = np.full_like(mean, 0.5) if table.coverage is not None else np.zeros_like(mean)
        np.divide(self.total, self.covered, out=fraction, where=self.covered > 0)
        return FeatureStatistics(
            n_features=len(mean),
            n_batches=len(self.n),
            mean=_tensor(mean),
            variance=_tensor(np.maximum(self.squares / n - mean**2, 0.0)),
            nonzero_fraction=_tensor(self.nonzero / n),
            mean_frequency=_tensor(frequency),
            overdispersion=_tensor(
                overdispersion(self.squares, self.crossed, self.total, frequency, float((depth**2).sum()))
            ),
            methylated_fraction=_tensor(fraction),
            n_categories=torch.as_tensor(np.where(len(depth), self.largest, 0.0) + 1.0).to(torch.int64),
            log1p_mean=_tensor(log_mean),
            log1p_sd=_tensor(log_sd),
            mean_log_depth=float(np.log(depth).mean()) if len(depth) else 0.0,
            has_unobserved=table.has_unobserved,
        )

    def _by_batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the logs; a batch without cells takes the whole's."""
        empty = self.n_cells == 0  # (n_batches,)
        sums = []
        for by_batch in (self.n, self.logs, self.log_squares):
            sums.append(np.where(empty[:, None], by_batch.sum(axis=0), by_batch))  # (n_batches, F)
        n = np.maximum(sums[0], 1.0)
        mean = sums[1] / n
        return mean, np.sqrt(np.maximum(sums[2] / n - mean**2, 0.0))


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.asarray(array, dtype=np.float32))
