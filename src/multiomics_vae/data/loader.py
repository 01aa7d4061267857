"""From registered cells to minibatches: gather rows by index, keep what is missing missing."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterator

import numpy as np
import scipy.sparse as sp
import torch

from multiomics_vae.data.dataset import ModalityData, MultimodalData
from multiomics_vae.data.minibatch import Covariates, Minibatch, ModalityBatch
from multiomics_vae.data.reading import ReadingPlan, plan_pass, read_ahead
from multiomics_vae.data.sources import Matrix
from multiomics_vae.data.stored import take_rows
from multiomics_vae.kernels import SparseRows


def make_minibatch(data: MultimodalData, cells: np.ndarray) -> Minibatch:
    """Gather some cells.

    Parameters
    ----------
    data
        The registered cells.
    cells
        Positions, ``(B,)``, in the order wanted.

    Returns
    -------
    Minibatch
        On the CPU, float32.

    Examples
    --------
    >>> make_minibatch(data, np.array([4, 2])).n_cells      # doctest: +SKIP
    2
    """
    if data.on_disk:
        return _make_at(data.loaded(cells), np.arange(len(cells)), cells)
    return _make_at(data, cells, cells)


def _make_at(data: MultimodalData, cells: np.ndarray, names: np.ndarray) -> Minibatch:
    """Gather cells of data in memory; ``names`` are their positions in the whole data set."""
    return Minibatch(
        modalities=tuple(_gather(modality, cells) for modality in data.modalities),
        covariates=Covariates(
            batch=torch.from_numpy(data.batch[cells]),
            categorical=torch.from_numpy(data.categorical[cells]),
            continuous=torch.from_numpy(data.continuous[cells]),
        ),
        present=torch.from_numpy(np.stack([m.row_of_cell[cells] >= 0 for m in data.modalities], axis=1)),
        cells=torch.from_numpy(np.asarray(names, dtype=np.int64)),
    )


def _gather(modality: ModalityData, cells: np.ndarray) -> ModalityBatch:
    rows_of_table = modality.row_of_cell[cells]
    rows = np.flatnonzero(rows_of_table >= 0)
    chosen = rows_of_table[rows]
    observed = modality.observed
    coverage = modality.coverage
    return ModalityBatch(
        rows=torch.from_numpy(rows),
        values=_sparse(modality.values, chosen)
        if sp.issparse(modality.values)
        else _dense(take_rows(modality.values, chosen)),
        depth=torch.from_numpy(modality.depth[chosen]),
        observed=None if observed is None else torch.from_numpy(observed[chosen]),
        coverage=None if coverage is None else _dense(take_rows(coverage, chosen)),
    )


def _sparse(values: sp.csr_matrix, rows: np.ndarray) -> SparseRows:
    """Gather CSR rows; canonical rows stay canonical."""
    taken = values[rows]
    return SparseRows(
        row_pointers=torch.from_numpy(taken.indptr.astype(np.int64)),
        columns=torch.from_numpy(taken.indices.astype(np.int64)),
        values=torch.from_numpy(taken.data),
        n_features=values.shape[1],
    )


def _dense(taken: Matrix) -> torch.Tensor:
    return torch.from_numpy(taken if isinstance(taken, np.ndarray) else taken.toarray())  # (B_m, F)


class MinibatchLoader:
    """Iterates over cells in minibatches; every pass shuffles anew if asked to.

    Values in memory are gathered cell by cell. Values on disk are read by a thread, a group of minibatches
    ahead: when shuffling, a group holds short runs of neighbouring cells from random places, and minibatches
    are drawn from the whole group at random. Every pass visits every cell once.

    Parameters
    ----------
    data
        The registered cells.
    cells
        Positions of the cells to visit, ``(n,)``.
    batch_size
        Cells in a minibatch; the last one takes what is left, one cell included.
    generator
        Shuffles the cells at each pass; None keeps their order.
    plan
        How much is read at once of values on disk.
    """

    def __init__(
        self,
        data: MultimodalData,
        cells: np.ndarray,
        batch_size: int,
        generator: np.random.Generator | None = None,
        plan: ReadingPlan | None = None,
    ) -> None:
        self.data = data
        self.cells = np.asarray(cells, dtype=np.int64)
        self.batch_size = batch_size
        self.generator = generator
        self.plan = plan or ReadingPlan()
        self._readers: weakref.WeakSet[Generator[Minibatch]] = weakref.WeakSet()

    def __len__(self) -> int:
        return -(-len(self.cells) // self.batch_size)

    def __iter__(self) -> Iterator[Minibatch]:
        if not self.data.on_disk:
            return self._from_memory()
        reader = self._from_disk()
        self._readers.add(reader)
        return reader

    def close(self) -> None:
        """End passes that were left unfinished, and the threads that read for them."""
        for reader in list(self._readers):
            reader.close()

    def _from_disk(self) -> Generator[Minibatch]:
        groups = plan_pass(self.data, self.cells, self.batch_size, self.generator, self.plan)
        for group, loaded in read_ahead(lambda group: self.data.loaded(group.cells), groups):
            for start in range(0, len(group.cells), self.batch_size):
                here = group.order[start : start + self.batch_size]
                yield _make_at(loaded, here, group.cells[here])
            # Frees the group before the next one is waited for.
            del loaded

    def _from_memory(self) -> Iterator[Minibatch]:
        cells = self.cells if self.generator is None else self.generator.permutation(self.cells)
        for start in range(0, len(cells), self.batch_size):
            yield make_minibatch(self.data, cells[start : start + self.batch_size])
