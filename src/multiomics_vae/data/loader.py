"""From registered cells to minibatches: gather rows by index, keep what is missing missing."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from multiomics_vae.data.bags import Bags
from multiomics_vae.data.dataset import ModalityData, MultimodalData
from multiomics_vae.data.gathering import gathered_rows
from multiomics_vae.data.minibatch import Covariates, LabelBatch, Minibatch, ModalityBatch
from multiomics_vae.data.reading import PassStart, ReadingPlan, plan_pass, read_ahead
from multiomics_vae.data.share import ALONE, Process, Share
from multiomics_vae.data.sources import Matrix
from multiomics_vae.data.stored import take_rows
from multiomics_vae.kernels import SparseRows
from multiomics_vae.kernels.compiled.blocks import give_way


def make_minibatch(data: MultimodalData, cells: np.ndarray, part: Share | None = None) -> Minibatch:
    """Gather some cells.

    Parameters
    ----------
    data
        The registered cells.
    cells
        Positions, ``(B,)``, in the order wanted.
    part
        Which cells of a training step these are, where several processes share one.

    Returns
    -------
    Minibatch
        Float32, on the CPU; values that have a copy on the training device are gathered there.

    Examples
    --------
    >>> make_minibatch(data, np.array([4, 2])).n_cells      # doctest: +SKIP
    2
    """
    if data.on_disk:
        return _make_at(data.loaded(cells), np.arange(len(cells)), cells, part)
    return _make_at(data, cells, cells, part)


def _make_at(data: MultimodalData, cells: np.ndarray, names: np.ndarray, part: Share | None) -> Minibatch:
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
        part=part,
        labels=_labels(data, cells),
    )


def _labels(data: MultimodalData, cells: np.ndarray) -> LabelBatch | None:
    if data.labels is None:
        return None
    values, donor = data.labels.outcomes[cells], data.labels.donor[cells]
    return LabelBatch(torch.from_numpy(values), torch.from_numpy(donor))


def _gather(modality: ModalityData, cells: np.ndarray) -> ModalityBatch:
    give_way()
    rows_of_table = modality.row_of_cell[cells]
    rows = np.flatnonzero(rows_of_table >= 0)
    chosen = rows_of_table[rows]
    observed = modality.observed
    coverage, inputs = modality.coverage, modality.encoder_inputs
    return ModalityBatch(
        rows=torch.from_numpy(rows),
        values=_values(modality, chosen),
        depth=torch.from_numpy(modality.depth[chosen]),
        observed=None if observed is None else torch.from_numpy(observed[chosen]),
        coverage=None if coverage is None else _dense(take_rows(coverage, chosen)),
        encoder_inputs=None if inputs is None else torch.from_numpy(inputs[chosen]),
        gaps=modality.gaps,
    )


def _values(modality: ModalityData, rows: np.ndarray) -> torch.Tensor | SparseRows:
    if modality.resident is not None:
        return modality.resident.take(rows)
    if sp.issparse(modality.values):
        return gathered_rows(modality.values, rows)
    return _dense(take_rows(modality.values, rows))


def _dense(taken: Matrix) -> torch.Tensor:
    return torch.from_numpy(taken if isinstance(taken, np.ndarray) else taken.toarray())  # (B_m, F)


@dataclass(frozen=True, eq=False)
class _Step:
    """The own cells of one step of a pass, ``(B,)``, and which of the step's they are."""

    cells: np.ndarray
    share: Share


class MinibatchLoader:
    """Iterates over cells in minibatches; every pass shuffles anew if asked to.

    Values in memory are gathered cell by cell, by a thread, one minibatch ahead. Values on disk are read by a
    thread, a group of minibatches ahead: when shuffling, a group holds short runs of neighbouring cells from
    random places, and minibatches are drawn from the whole group at random. Every pass visits every cell
    once, in one of the processes.

    Parameters
    ----------
    data
        The registered cells.
    cells
        Positions of the cells to visit, ``(n,)``.
    batch_size
        Cells in a minibatch of one process; the last step takes what is left, one cell included.
    generator
        Shuffles the cells at each pass; None keeps their order. In the same state in every process.
    plan
        How much is read at once of values on disk.
    process
        Which of several processes gets these minibatches.
    finish
        What is still done to minibatches of values in memory, in the thread that gathers them; None for
        nothing.
    bags
        Keeps bags of a donor's cells together; minibatches are then of about ``batch_size`` cells, and values
        on disk are read a step ahead. None shuffles cells one by one.
    """

    def __init__(
        self,
        data: MultimodalData,
        cells: np.ndarray,
        batch_size: int,
        generator: np.random.Generator | None = None,
        plan: ReadingPlan | None = None,
        process: Process = ALONE,
        finish: Callable[[Minibatch], Minibatch] | None = None,
        bags: Bags | None = None,
    ) -> None:
        self.bags = bags
        self.data = data
        self.cells = np.asarray(cells, dtype=np.int64)
        self.batch_size = batch_size
        self.generator = generator
        self.plan = plan or ReadingPlan()
        self.process = process
        self.finish = finish
        self.pass_start = PassStart()
        self._n_skipped = 0
        self._readers: weakref.WeakSet[Generator[Minibatch]] = weakref.WeakSet()

    def __len__(self) -> int:
        """Minibatches of the pass under way, or of the next one."""
        return self.n_steps - self._n_skipped

    @property
    def n_steps(self) -> int:
        """Minibatches of a whole pass."""
        n_steps = -(-len(self.cells) // self._step_size)
        return n_steps if self.bags is None else min(n_steps, self.bags.n_bags(self.cells))

    def __iter__(self) -> Iterator[Minibatch]:
        self.pass_start = PassStart.of(self.generator)
        if self.data.on_disk:
            reader = self._from_disk() if self.bags is None else self._bags_from_disk()
        else:
            reader = self._from_memory()
        self._readers.add(reader)
        return reader

    def go_on(self, start: PassStart, n_done: int) -> None:
        """Let the next pass be the rest of an earlier one.

        Parameters
        ----------
        start
            Of the earlier pass.
        n_done
            Its minibatches that were used.
        """
        start.restore(self.generator)
        self._n_skipped = n_done

    def end_pass(self) -> None:
        """Make the next pass a whole one."""
        self._n_skipped = 0

    def close(self) -> None:
        """End passes that were left unfinished, and the threads that read for them."""
        for reader in list(self._readers):
            reader.close()

    @property
    def _step_size(self) -> int:
        """Cells of a step, over all processes."""
        return self.batch_size * self.process.n_processes

    def _shares(self) -> list[Share]:
        """The own share of every step of a pass."""
        n = len(self.cells)
        starts = range(0, n, self._step_size)
        return [self.process.share(min(self._step_size, n - start)) for start in starts]

    def _from_disk(self) -> Generator[Minibatch]:
        plan = (self.batch_size, self.generator, self.plan, self.process)
        groups = plan_pass(self.data, self.cells, *plan)
        shares = iter(self._shares()[self._n_skipped :])
        # Groups hold whole minibatches, so that those before the skipped end can be left unread.
        first, skipped = 0, self._n_skipped * self.batch_size
        while first < len(groups) and skipped >= len(groups[first].cells):
            skipped -= len(groups[first].cells)
            first += 1
        for group, loaded in read_ahead(lambda group: self.data.loaded(group.cells), groups[first:]):
            for start in range(skipped, len(group.cells), self.batch_size):
                here = group.order[start : start + self.batch_size]
                yield _make_at(loaded, here, group.cells[here], next(shares))
            skipped = 0
            # Frees the group before the next one is waited for.
            del loaded
        for share in shares:  # a last step that is too small for this process
            yield make_minibatch(self.data, self.cells[:1], share)

    def _steps_of_bags(self, bags: Bags) -> list[_Step]:
        """The own bins of every step; part 0 of all steps is filled before part 1 of any."""
        n_steps, n_processes = self.n_steps, self.process.n_processes
        bins = bags.pack(self.cells, n_steps * n_processes, self.generator)
        steps = []
        for step in range(n_steps):
            parts = bins[step::n_steps]
            sizes, own = [len(part) for part in parts], parts[self.process.rank]
            first = sum(sizes[: self.process.rank]) if len(own) else 0
            share = Share(first, len(own), sum(sizes))
            steps.append(_Step(own if len(own) else parts[0][:1], share))
        return steps

    def _bags_from_disk(self) -> Generator[Minibatch]:
        assert self.bags is not None
        steps = self._steps_of_bags(self.bags)[self._n_skipped :]
        for step, loaded in read_ahead(lambda step: self.data.loaded(step.cells), steps):
            yield _make_at(loaded, np.arange(len(step.cells)), step.cells, step.share)

    def _steps(self) -> list[_Step]:
        """The own cells of every step of a pass."""
        if self.bags is not None:
            return self._steps_of_bags(self.bags)
        cells = self.cells if self.generator is None else self.generator.permutation(self.cells)
        return [
            _Step(cells[step * self._step_size :][share.rows], share)
            for step, share in enumerate(self._shares())
        ]

    def _from_memory(self) -> Generator[Minibatch]:
        def gathered(step: _Step) -> Minibatch:
            minibatch = make_minibatch(self.data, step.cells, step.share)
            return minibatch if self.finish is None else self.finish(minibatch)

        steps = self._steps()[self._n_skipped :]
        if any(modality.resident is not None for modality in self.data.modalities):
            yield from map(gathered, steps)
            return
        for _, minibatch in read_ahead(gathered, steps):
            yield minibatch
