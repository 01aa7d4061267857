"""Synthetic cells of a given size, made sparse directly, so that any number of peaks fits in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mudata import MuData

N_TYPES = 8
CELLS_AT_ONCE = 1_000


@dataclass(frozen=True)
class CellSpec:
    """How many cells of which size; the same spec makes the same cells in every process.

    Parameters
    ----------
    n_cells, n_genes, n_peaks
        Sizes.
    genes_a_cell, peaks_a_cell
        Non-zeros expected in a cell.
    seed
        Of everything random.
    """

    n_cells: int
    n_genes: int
    n_peaks: int
    genes_a_cell: int
    peaks_a_cell: int
    seed: int = 0

    @property
    def text(self) -> str:
        cells, genes, peaks = spaced(self.n_cells), spaced(self.n_genes), spaced(self.n_peaks)
        return (
            f"{cells} cells, {genes} genes ({spaced(self.genes_a_cell)} non-zero in a cell), "
            f"{peaks} peaks ({spaced(self.peaks_a_cell)})"
        )


def spaced(number: int) -> str:
    """Write a number with its thousands apart: 80 000."""
    return f"{number:,}".replace(",", " ")


def make_cells(spec: CellSpec) -> MuData:
    """Counts of genes and open peaks of cells of eight types, each type with shares of its own."""
    import anndata as ad
    from mudata import MuData

    rng = np.random.default_rng(spec.seed)
    cell_type = rng.integers(N_TYPES, size=spec.n_cells)  # (N,)
    size_factor = np.exp(0.3 * rng.standard_normal(spec.n_cells))  # (N,)
    rna = _multinomial_counts(rng, cell_type, size_factor, spec.n_genes, spec.genes_a_cell)
    atac = _multinomial_counts(rng, cell_type, size_factor, spec.n_peaks, spec.peaks_a_cell)
    atac.data[:] = 1.0
    tables = {"rna": ad.AnnData(rna), "atac": ad.AnnData(atac)}
    for name, table in tables.items():
        table.obs_names = [f"cell{i}" for i in range(spec.n_cells)]
        table.var_names = [f"{name}{i}" for i in range(table.n_vars)]
    return MuData(tables)


def _multinomial_counts(
    rng: np.random.Generator,
    cell_type: NDArray[np.int64],
    size_factor: NDArray[np.float64],
    n_features: int,
    nonzeros_a_cell: int,
) -> sp.csr_matrix:
    """Drop reads on features by their share of the cell's type; reads on one feature add up."""
    popularity = 1.2 * rng.standard_normal(n_features)  # (F,)
    shares = np.exp(popularity + 0.5 * rng.standard_normal((N_TYPES, n_features)))  # (T, F)
    shares /= shares.sum(axis=1, keepdims=True)
    reads = np.array([_reads_for(row, nonzeros_a_cell) for row in shares])  # (T,)
    cumulative = shares.cumsum(axis=1)  # (T, F)
    n_reads = rng.poisson(reads[cell_type] * size_factor).clip(min=1)  # (N,)
    blocks = []
    for start in range(0, len(cell_type), CELLS_AT_ONCE):
        here = slice(start, start + CELLS_AT_ONCE)
        row_of_read = np.repeat(np.arange(len(n_reads[here])), n_reads[here])  # (reads,)
        type_of_read = cell_type[here][row_of_read]
        level = rng.random(len(row_of_read))
        columns = np.empty(len(row_of_read), dtype=np.int64)
        for t in range(N_TYPES):
            own = type_of_read == t
            columns[own] = np.searchsorted(cumulative[t], level[own]).clip(max=n_features - 1)
        ones = np.ones(len(columns), dtype=np.float32)
        shape = (len(n_reads[here]), n_features)
        block = sp.csr_matrix((ones, (row_of_read, columns)), shape=shape)
        block.sum_duplicates()
        blocks.append(block)
    return sp.csr_matrix(sp.vstack(blocks, format="csr"))


def _reads_for(shares: NDArray[np.float64], nonzeros: int) -> float:
    """Number of reads that are expected to hit so many features at least once, by bisection."""
    low, high = 0.0, 1.0
    while -np.expm1(-high * shares).sum() < nonzeros:
        high *= 2.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        if -np.expm1(-middle * shares).sum() < nonzeros:
            low = middle
        else:
            high = middle
    return high
