"""The positive parameter of every feature, or of every feature and batch, and its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from multiomics_vae.kernels.chunked_entries import EntrySlice


class DispersionTable:
    """Dispersions θ as the loop reads them: by chunk or by entry, the cells' batches looked up.

    Parameters
    ----------
    log_dispersion
        log θ, ``(R, F)`` with one row for all cells or one a batch.
    batch
        Row of each cell, ``(B,)``; None if there is one row.
    cell_weights
        Weights of the cells in the gradient, ``(B,)``.
    chunk_size
        Features in the widest chunk.
    wants_gradient
        Whether to make room for the gradient by log θ.
    """

    def __init__(
        self,
        log_dispersion: Tensor,
        batch: Tensor | None,
        cell_weights: Tensor,
        chunk_size: int,
        wants_gradient: bool,
    ) -> None:
        n_rows, self.n_features = log_dispersion.shape
        self.batch, self.cell_weights = batch, cell_weights
        self._by_feature = log_dispersion.exp().t().contiguous()  # (F, R)
        self.log_gradient = (
            log_dispersion.new_zeros(n_rows, self.n_features) if wants_gradient else None
        )  # (R, F)
        if batch is None:
            self._weights_of_rows = cell_weights.unsqueeze(1)  # (B, 1)
        else:
            rows = torch.arange(n_rows, device=batch.device)
            self._weights_of_rows = (batch.unsqueeze(1) == rows) * cell_weights.unsqueeze(1)  # (B, R)
            width = min(chunk_size, self.n_features)
            self._spread = log_dispersion.new_empty(width, len(batch))  # (chunk, B)

    def of_chunk(self, features: slice) -> Tensor:
        """Dispersions of some features: ``(n, 1)``, or ``(n, B)`` if batches differ."""
        part = self._by_feature[features]  # (n, R)
        if self.batch is None:
            return part
        return torch.index_select(part, 1, self.batch, out=self._spread[: len(part)])

    def at_entries(self, entries: EntrySlice) -> Tensor:
        """Dispersions at stored entries, ``(k,)``."""
        index = entries.columns
        if self.batch is not None:
            index = index * self._by_feature.shape[1] + self.batch.index_select(0, entries.rows)  # (k,)
        return self._by_feature.view(-1).index_select(0, index)

    def add_chunk(self, features: slice, slope: Tensor) -> None:
        """Take in slopes by the log dispersion, ``(n, B)``."""
        if self.log_gradient is not None:
            self.log_gradient[:, features] += torch.mm(slope, self._weights_of_rows).t()

    def add_at_entries(self, entries: EntrySlice, slope: Tensor) -> None:
        """Take in slopes by the log dispersion at stored entries, ``(k,)``."""
        if self.log_gradient is None:
            return
        index = entries.columns
        if self.batch is not None:
            index = index + self.batch.index_select(0, entries.rows) * self.n_features  # (k,)
        weighted = slope * self.cell_weights.index_select(0, entries.rows)  # (k,)
        self.log_gradient.view(-1).scatter_add_(0, index, weighted)
