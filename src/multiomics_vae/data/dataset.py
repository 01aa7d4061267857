"""The registered cells, in memory or on disk: what registration makes and the loader reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from multiomics_vae.data.matrices import dense
from multiomics_vae.data.resident import ResidentRows
from multiomics_vae.data.schema import Schema
from multiomics_vae.data.stored import StoredRows, bytes_a_row, take_rows


@dataclass(frozen=True)
class ModalityData:
    """One modality of N cells.

    Parameters
    ----------
    values
        ``(N_m, F)``: canonical ``csr_matrix`` float32 for counts, or a dense float32 array; or rows on disk
        that come in one of these forms.
    row_of_cell
        For each of the N cells its row in ``values``, -1 where the cell lacks the modality, ``(N,)``.
    depth
        Library size, size factor or number of open peaks of each row, positive, ``(N_m,)``, float32.
    observed
        Measured entries of a dense modality with NaN, ``(N_m, F)``, bool; None means all. On disk it is None,
        and found in the values when they are read.
    coverage
        Trials behind methylated counts, same form as ``values``; None for other data.
    resident
        A copy of the values on the device that trains, from which minibatches are then gathered.
    encoder_inputs
        What the encoder makes of each row before anything is learned, ``(N_m, R)``, float32, where it was
        worked out beforehand.
    """

    values: sp.csr_matrix | np.ndarray | StoredRows
    row_of_cell: np.ndarray
    depth: np.ndarray
    observed: np.ndarray | None = None
    coverage: sp.csr_matrix | np.ndarray | StoredRows | None = None
    resident: ResidentRows | None = None
    encoder_inputs: np.ndarray | None = None

    @property
    def on_disk(self) -> bool:
        return isinstance(self.values, StoredRows) or isinstance(self.coverage, StoredRows)

    @property
    def has_unobserved(self) -> bool:
        """True if some entries of the rows were not measured."""
        return self.observed is not None or (isinstance(self.values, StoredRows) and self.values.has_missing)

    @property
    def bytes_a_row(self) -> float:
        """Memory that an average row takes."""
        trials = 0.0 if self.coverage is None else bytes_a_row(self.coverage)
        return bytes_a_row(self.values) * (1.25 if self.has_unobserved else 1.0) + trials

    def loaded(self, cells: np.ndarray) -> ModalityData:
        """The same of some cells only, in memory; ``(n,)`` positions, in the order wanted."""
        rows_of_table = self.row_of_cell[cells]
        there = rows_of_table >= 0
        rows = rows_of_table[there]
        values = take_rows(self.values, rows)
        observed = None if self.observed is None else self.observed[rows]
        if isinstance(self.values, StoredRows) and self.values.has_missing:
            values = dense(values)
            observed = ~np.isnan(values)
            values = np.where(observed, values, np.float32(0))
        return ModalityData(
            values,
            np.where(there, np.cumsum(there) - 1, -1),
            self.depth[rows],
            observed,
            None if self.coverage is None else take_rows(self.coverage, rows),
            encoder_inputs=None if self.encoder_inputs is None else self.encoder_inputs[rows],
        )


@dataclass(frozen=True)
class Labels:
    """Whose the cells are, and what is known of what is to be predicted.

    Parameters
    ----------
    donor
        Position in ``donor_names``, -1 where it is not known, ``(N,)``, int64.
    donor_names
        Of the donors of these cells.
    outcomes
        As heads read it, ``(N, n_label_columns)``, float32, NaN where it is not known: codes of categories,
        standardised numbers, times over the time scale and events as 0 and 1.
    """

    donor: np.ndarray
    donor_names: tuple[str, ...]
    outcomes: np.ndarray

    def of(self, cells: np.ndarray) -> Labels:
        """The same of some cells."""
        return Labels(self.donor[cells], self.donor_names, self.outcomes[cells])


@dataclass(frozen=True)
class MultimodalData:
    """N cells, aligned by name, under one schema.

    Parameters
    ----------
    schema
        What was registered.
    cell_names
        ``(N,)``, unique, in the MuData's order.
    modalities
        In the schema's order.
    batch
        Batch codes, ``(N,)``, int64.
    categorical
        ``(N, n_categorical)``, int64.
    continuous
        Standardised, ``(N, n_continuous)``, float32.
    labels
        Donors and outcomes; None where neither was registered.
    """

    schema: Schema
    cell_names: np.ndarray
    modalities: tuple[ModalityData, ...]
    batch: np.ndarray
    categorical: np.ndarray
    continuous: np.ndarray
    labels: Labels | None = None

    @property
    def n_cells(self) -> int:
        return len(self.cell_names)

    @property
    def present(self) -> np.ndarray:
        """Which cell has which modality, ``(N, M)``, bool."""
        return np.stack([modality.row_of_cell >= 0 for modality in self.modalities], axis=1)

    @property
    def donor(self) -> np.ndarray:
        """Codes of the donors, -1 where a cell's is not known, ``(N,)``, int64."""
        return np.full(self.n_cells, -1, dtype=np.int64) if self.labels is None else self.labels.donor

    @property
    def outcomes(self) -> np.ndarray:
        """Labels as heads read them, ``(N, n_label_columns)``, float32; NaN where there is none."""
        if self.labels is None:
            return np.empty((self.n_cells, self.schema.n_label_columns), np.float32)
        return self.labels.outcomes

    @property
    def on_disk(self) -> bool:
        """True if the values of any modality are on disk."""
        return any(modality.on_disk for modality in self.modalities)

    def loaded(self, cells: np.ndarray) -> MultimodalData:
        """Some cells only, in memory; ``(n,)`` positions, in the order wanted."""
        return MultimodalData(
            schema=self.schema,
            cell_names=self.cell_names[cells],
            modalities=tuple(modality.loaded(cells) for modality in self.modalities),
            batch=self.batch[cells],
            categorical=self.categorical[cells],
            continuous=self.continuous[cells],
            labels=None if self.labels is None else self.labels.of(cells),
        )

    def with_own_values(self) -> MultimodalData:
        """The same with a copy of all values, which no later edit of the user's matrices can reach.

        ``sc.pp.log1p`` and its like write into a matrix in place; the places of the non-zeros stay
        shared, the values do not. Values on disk stay there.
        """
        return replace(self, modalities=tuple(_with_own_values(part) for part in self.modalities))


def _with_own_values(part: ModalityData) -> ModalityData:
    return replace(
        part, values=_own(part.values), coverage=None if part.coverage is None else _own(part.coverage)
    )


def _own(values: sp.csr_matrix | np.ndarray | StoredRows) -> sp.csr_matrix | np.ndarray | StoredRows:
    if isinstance(values, StoredRows):
        return values
    if isinstance(values, np.ndarray):
        return values.copy()
    return sp.csr_matrix((values.data.copy(), values.indices, values.indptr), shape=values.shape)
