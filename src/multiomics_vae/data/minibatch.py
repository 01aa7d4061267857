"""What one step of the model sees: a minibatch of cells, some of which lack a modality.

A modality carries rows only for the cells that have it; nothing is ever filled with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from multiomics_vae.data.gaps import Gaps
from multiomics_vae.data.share import Share
from multiomics_vae.kernels import ChunkedEntries, ChunkOptions, DrawnEntries, SparseRows, chunk_rows


@dataclass(frozen=True)
class ModalityBatch:
    """One modality of a minibatch, for the B_m of its B cells that have it.

    Parameters
    ----------
    rows
        Position in the minibatch of each row, ``(B_m,)``, int64.
    values
        Observations, ``(B_m, F)``, float32: sparse rows for counts, dense otherwise, with 0 where
        ``observed`` is False.
    depth
        Library size, size factor or number of open peaks, positive, ``(B_m,)``.
    observed
        Entries that were measured, ``(B_m, F)``, bool; None means all.
    coverage
        Trials behind a methylated count, ``(B_m, F)``; None for every other kind of data.
    encoder_inputs
        What the encoder makes of the rows before anything is learned, ``(B_m, R)``; None where it has to be
        worked out.
    gaps
        Features of counts that were not measured in any cell; None where all were.
    drawn
        Features drawn to stand for all in the next training step; None where none were yet.
    """

    rows: Tensor
    values: Tensor | SparseRows
    depth: Tensor
    observed: Tensor | None = None
    coverage: Tensor | None = None
    encoder_inputs: Tensor | SparseRows | None = None
    gaps: Gaps | None = None
    drawn: DrawnEntries | None = None

    @property
    def dense(self) -> Tensor:
        """The observations as a dense tensor: ``(B_m, F)``."""
        return self.values.to_dense() if isinstance(self.values, SparseRows) else self.values

    @property
    def device(self) -> torch.device:
        """Where the observations are."""
        values = self.values
        return values.values.device if isinstance(values, SparseRows) else values.device

    @cached_property
    def chunked(self) -> ChunkedEntries | None:
        """Sparse observations sorted for the fused likelihoods, once for all that ask; None if dense.

        Of the measured features only, where there are gaps.
        """
        if not isinstance(self.values, SparseRows):
            return None
        values = self.values if self.gaps is None else self.gaps.sample.entries(self.values)
        return chunk_rows(values, values.values.new_empty(len(self.rows), 1), ChunkOptions())

    def rows_of(self, of_cells: Tensor, dim: int = 0) -> Tensor:
        """Of a tensor of all cells of the minibatch, the part of those that have the modality."""
        # Rows increase, so as many as there are cells are all of them.
        return of_cells if len(self.rows) == of_cells.shape[dim] else of_cells.index_select(dim, self.rows)

    def to(self, device: torch.device | str) -> ModalityBatch:
        """Copy to a device."""
        return ModalityBatch(
            self.rows.to(device),
            self.values.to(device),
            self.depth.to(device),
            None if self.observed is None else self.observed.to(device),
            None if self.coverage is None else self.coverage.to(device),
            None if self.encoder_inputs is None else self.encoder_inputs.to(device),
            None if self.gaps is None else self.gaps.to(device),
            self.drawn if torch.device(device) == self.rows.device else None,
        )


@dataclass(frozen=True)
class Covariates:
    """What is known of each cell beside its measurements.

    Parameters
    ----------
    batch
        Batch code, ``(B,)``, int64; zeros where no batch key was registered.
    categorical
        Codes of the further categorical covariates, ``(B, n_categorical)``, int64.
    continuous
        Standardised continuous covariates, ``(B, n_continuous)``, float32.
    """

    batch: Tensor
    categorical: Tensor
    continuous: Tensor

    def to(self, device: torch.device | str) -> Covariates:
        """Copy to a device."""
        return Covariates(self.batch.to(device), self.categorical.to(device), self.continuous.to(device))

    def rows(self, index: Tensor) -> Covariates:
        """Take some of the cells, in the order of ``index``."""
        return Covariates(self.batch[index], self.categorical[index], self.continuous[index])

    def with_batch(self, code: int) -> Covariates:
        """Say that every cell came from batch ``code``."""
        return replace(self, batch=torch.full_like(self.batch, code))


@dataclass(frozen=True)
class LabelBatch:
    """What is to be predicted of B cells, and whose they are.

    Parameters
    ----------
    values
        As `data.dataset.Labels` holds them, ``(B, n_label_columns)``, float32; NaN where there is none.
    donor
        Codes, ``(B,)``, int64; -1 where it is not known.
    """

    values: Tensor
    donor: Tensor

    def to(self, device: torch.device | str) -> LabelBatch:
        """Copy to a device."""
        return LabelBatch(self.values.to(device), self.donor.to(device))


@dataclass(frozen=True)
class Minibatch:
    """B cells, as the model sees them.

    Parameters
    ----------
    modalities
        One entry for each registered modality, in the schema's order.
    covariates
        Batch and further covariates of the B cells.
    present
        Which cell has which modality, ``(B, M)``, bool.
    cells
        Position of each cell in the data set, ``(B,)``, int64.
    part
        Which cells of a training step these are, where several processes share one; None if all.
    labels
        Donors and outcomes; None where neither was registered.
    """

    modalities: tuple[ModalityBatch, ...]
    covariates: Covariates
    present: Tensor
    cells: Tensor
    part: Share | None = None
    labels: LabelBatch | None = None

    @property
    def n_cells(self) -> int:
        return self.present.shape[0]

    @property
    def share(self) -> Share:
        """Which cells of a training step these are."""
        return self.part or Share(0, self.n_cells, self.n_cells)

    def to(self, device: torch.device | str) -> Minibatch:
        """Copy to a device; on the right one already, it is handed back as it is."""
        places = {self.present.device, *(modality.device for modality in self.modalities)}
        if places == {torch.device(device)}:
            return self
        return Minibatch(
            tuple(modality.to(device) for modality in self.modalities),
            self.covariates.to(device),
            self.present.to(device),
            self.cells.to(device),
            self.part,
            None if self.labels is None else self.labels.to(device),
        )
