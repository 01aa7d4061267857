"""The stored entries of a minibatch, sorted by the chunk of features they fall into."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from multiomics_vae.kernels.sparse_rows import SparseRows


@dataclass(frozen=True)
class EntrySlice:
    """The k entries of one chunk, or of all.

    Parameters
    ----------
    rows, columns, values
        Cell, feature and value of each entry, ``(k,)``.
    positions
        Place of each entry in the flattened ``(features of its chunk, B)`` buffer, ``(k,)``.
    """

    rows: Tensor
    columns: Tensor
    values: Tensor
    positions: Tensor

    def part(self, which: slice) -> EntrySlice:
        """Some of the entries, as views."""
        return EntrySlice(self.rows[which], self.columns[which], self.values[which], self.positions[which])


@dataclass(frozen=True)
class ChunkedEntries:
    """Entries grouped by chunk, when somebody asks for them; made once, they serve every pass.

    Parameters
    ----------
    data
        The rows, in their own order.
    chunk_size
        Features in a chunk; the last may have fewer.

    Examples
    --------
    >>> rows = SparseRows.from_dense(torch.tensor([[0.0, 2.0, 3.0], [1.0, 0.0, 0.0]]))
    >>> ChunkedEntries(rows, chunk_size=2).starts
    (0, 2, 3)
    """

    data: SparseRows
    chunk_size: int

    @property
    def n_cells(self) -> int:
        return self.data.n_cells

    @property
    def n_features(self) -> int:
        return self.data.n_features

    @property
    def entries(self) -> EntrySlice:
        """All entries, sorted by chunk, then by row, then by column."""
        return self._sorted[0]

    @property
    def starts(self) -> tuple[int, ...]:
        """Chunk k owns the entries ``starts[k]:starts[k + 1]``; one number more than there are chunks."""
        return self._sorted[1]

    @cached_property
    def _sorted(self) -> tuple[EntrySlice, tuple[int, ...]]:
        """Sort by chunk in time linear in the entries, with one synchronisation of the device."""
        data, chunk_size = self.data, self.chunk_size
        n_cells, n_entries = data.n_cells, len(data.columns)
        device = data.columns.device
        n_chunks = -(-data.n_features // chunk_size)
        cells = torch.arange(n_cells, device=device)
        # Sorted rows make this key increase, so every (row, chunk) is one run of entries and no
        # comparison sort is needed.
        key = data.row_of_each_entry() * data.n_features + data.columns  # (nnz,)
        first = torch.arange(n_chunks, device=device) * chunk_size  # (n_chunks,)
        run_starts = torch.searchsorted(key, cells[:, None] * data.n_features + first)  # (B, n_chunks)
        run_ends = torch.cat([run_starts[:, 1:], data.row_pointers[1:, None]], dim=1)  # (B, n_chunks)
        lengths = (run_ends - run_starts).t().reshape(-1)  # (n_chunks · B,)
        before = lengths.cumsum(0) - lengths  # (n_chunks · B,)
        shift = run_starts.t().reshape(-1) - before  # (n_chunks · B,)
        order = torch.arange(n_entries, device=device)
        order += torch.repeat_interleave(shift, lengths, output_size=n_entries)  # (nnz,)
        rows = torch.repeat_interleave(cells.repeat(n_chunks), lengths, output_size=n_entries)  # (nnz,)
        columns = data.columns.index_select(0, order)  # (nnz,)
        counts = lengths.view(n_chunks, n_cells).sum(1)  # (n_chunks,)
        base = torch.repeat_interleave(first * n_cells, counts, output_size=n_entries)  # (nnz,)
        positions = (columns * n_cells).add_(rows).sub_(base)  # (nnz,)
        values = data.values.index_select(0, order)  # (nnz,)
        return EntrySlice(rows, columns, values, positions), (0, *counts.cumsum(0).tolist())

    @property
    def chunks(self) -> tuple[slice, ...]:
        """The features of each chunk."""
        size, last = self.chunk_size, self.n_features
        return tuple(slice(low, min(low + size, last)) for low in range(0, last, size))

    def span(self, chunk: int) -> slice:
        """The entries of a chunk."""
        return slice(self.starts[chunk], self.starts[chunk + 1])

    def of_chunk(self, chunk: int) -> EntrySlice:
        """The entries of one chunk, as views."""
        return self.entries.part(self.span(chunk))
