"""From the chosen values of one modality to its checked, canonical form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from multiomics_vae.data import matrices
from multiomics_vae.data.alignment import rows_by_name
from multiomics_vae.data.checks import check_counts, check_covered, check_no_infinity, warn_inexact
from multiomics_vae.data.dataset import ModalityData
from multiomics_vae.data.scan import summarise
from multiomics_vae.data.sources import Matrix, Source, raw_values, shown, source_of
from multiomics_vae.data.stored import StoredMatrix, StoredRows, matrix_of
from multiomics_vae.data.stored_modality import check_stored_coverage, stored_rows
from multiomics_vae.errors import InputError, warn
from multiomics_vae.likelihoods import LIKELIHOODS, Support


@dataclass(frozen=True)
class Canonical:
    """Checked values of the rows that were measured.

    Parameters
    ----------
    values, observed, coverage
        As in `ModalityData`.
    measured
        Rows of the input that were measured at all, ``(n_rows,)``, bool; the others are left out.
    """

    values: Matrix | StoredRows
    measured: np.ndarray
    observed: np.ndarray | None = None
    coverage: Matrix | StoredRows | None = None


def canonical(
    matrix: Matrix | StoredMatrix,
    source: Source,
    likelihood: str,
    coverage: tuple[Matrix | StoredMatrix, Source] | None = None,
) -> Canonical:
    """Check values against what a likelihood needs and bring them into their final form.

    Raises
    ------
    InputError
        Naming the first value that cannot be, by place, cell and feature.
    """
    if isinstance(matrix, StoredMatrix) or (coverage is not None and isinstance(coverage[0], StoredMatrix)):
        return _on_disk(matrix, source, likelihood, coverage)
    support: Support = LIKELIHOODS[likelihood].support
    if support in ("real", "codes"):
        return _masked(matrix, source, likelihood, support)
    check_counts(matrix, source, likelihood)
    everywhere = np.ones(matrix.shape[0], dtype=bool)
    values = matrices.compact(matrices.as_float32(matrix))
    if support == "binary":
        return Canonical(matrices.binarised(values), everywhere)
    warn_inexact(summarise(matrix).largest, source)
    if coverage is None:
        return Canonical(values, everywhere)
    trials, trials_source = coverage
    assert not isinstance(trials, StoredMatrix)
    check_counts(trials, trials_source, likelihood)
    warn_inexact(summarise(trials).largest, trials_source)
    values, trials = matrices.same_form(values, matrices.compact(matrices.as_float32(trials)))
    check_covered(values, trials, source, trials_source)
    return Canonical(values, everywhere, coverage=trials)


def _on_disk(
    matrix: Matrix | StoredMatrix,
    source: Source,
    likelihood: str,
    coverage: tuple[Matrix | StoredMatrix, Source] | None,
) -> Canonical:
    """Values or coverage, or both, lie on disk: each is checked where it is."""
    values, measured = _checked(matrix, source, likelihood)
    if coverage is None:
        return Canonical(values, measured)
    trials, _ = _checked(*coverage, likelihood)
    check_stored_coverage(matrix, coverage[0], source, coverage[1])
    return Canonical(values, measured, coverage=trials)


def _checked(
    matrix: Matrix | StoredMatrix, source: Source, likelihood: str
) -> tuple[Matrix | StoredRows, np.ndarray]:
    if isinstance(matrix, StoredMatrix):
        return stored_rows(matrix, source, likelihood)
    found = canonical(matrix, source, likelihood)
    return found.values, found.measured


def _masked(matrix: Matrix, source: Source, likelihood: str, support: Support) -> Canonical:
    values = matrices.as_float32(matrices.dense(matrix))
    assert isinstance(values, np.ndarray)
    check_no_infinity(values, source)
    missing = np.isnan(values)
    observed = None
    measured = np.ones(len(values), dtype=bool)
    if missing.any():
        measured = np.asarray(~missing.all(axis=1))
        observed = ~missing[measured]
        values = np.where(observed, values[measured], np.float32(0))
        if observed.all():
            observed = None
    if support == "codes":
        check_counts(values, source, likelihood)
    return Canonical(values, measured, observed)


def check_every_feature_observed(found: Canonical, source: Source) -> None:
    """Refuse features without a single value: nothing could be learned of them."""
    if isinstance(found.values, StoredRows):
        never = found.values.never_observed
    elif found.observed is None:
        never = np.zeros(found.values.shape[1], dtype=bool)
        if not found.measured.any():
            never[:] = True
    else:
        never = np.asarray(~found.observed.any(axis=0))
    if never.any():
        modality = f"mdata.mod[{source.modality!r}]"
        raise InputError(
            f"{source}: {int(never.sum())} features are NaN in every cell: {shown(source.features[never])}. "
            f"Drop them: `{modality} = {modality}[:, ~np.isnan({source}).all(0)].copy(); mdata.update()`."
        )


def coverage_of(adata: Any, modality: str, layer: str | None) -> tuple[Matrix | StoredMatrix, Source] | None:
    """Read the coverage layer; None where there is none."""
    if layer is None:
        return None
    source = source_of(adata, modality, layer)
    return matrix_of(raw_values(adata, source), source), source


def totals(found: Canonical, likelihood: str) -> np.ndarray:
    """What a likelihood calls the depth of a row, before any floor: ``(N_m,)``, float64."""
    support = LIKELIHOODS[likelihood].support
    if support in ("real", "codes"):
        return np.ones(found.values.shape[0])
    counted = found.values if found.coverage is None else found.coverage
    return counted.totals if isinstance(counted, StoredRows) else matrices.row_sums(counted)


def floored(depth: np.ndarray, source: Source) -> np.ndarray:
    """Depth with empty rows counted as 1, so that its logarithm is finite; warns of them."""
    empty = int((depth <= 0).sum())
    if empty:
        warn(
            f"{source}: {empty} of {len(depth)} cells have no count at all; their depth is taken as 1. If "
            "they were not measured, drop them from this modality: "
            "`adata = adata[adata.X.sum(1) > 0].copy()`."
        )
    return np.where(depth > 0, depth, 1.0).astype(np.float32)


def place_rows(
    found: Canonical, cell_names: pd.Index, row_names: pd.Index, depth: np.ndarray
) -> ModalityData:
    """Pair the measured rows with the cells, by name."""
    row_of_cell = rows_by_name(cell_names, row_names[found.measured])
    return ModalityData(found.values, row_of_cell, depth, found.observed, found.coverage)


def absent(n_cells: int, n_features: int, likelihood: str, covered: bool) -> ModalityData:
    """A registered modality that a data set does not have."""
    empty = np.zeros((0, n_features), dtype=np.float32)
    values = empty if LIKELIHOODS[likelihood].support in ("real", "codes") else matrices.compact(empty)
    return ModalityData(
        values,
        np.full(n_cells, -1, dtype=np.int64),
        np.zeros(0, dtype=np.float32),
        coverage=matrices.compact(empty) if covered else None,
    )
