"""In which order values on disk are read, and the thread that reads them ahead of the training step.

Disks are fast at runs of neighbouring rows and slow at single ones, training wants random cells. So a
pass takes short runs in random order, reads as many of them as fit a buffer, and shuffles the buffer
(as scDataset does, D'Ascenzo & Cultrera di Montesano 2025).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

import numpy as np

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.share import ALONE, Process
from multiomics_vae.kernels.compiled.blocks import give_way, work_in_background

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ReadingPlan:
    """How much is read at once; two groups are in memory at a time.

    Parameters
    ----------
    group_bytes
        Memory for the values of a group, from which minibatches are drawn at random. A group holds one
        minibatch at least.
    run_bytes
        Memory for the values of a run of neighbouring cells.
    """

    group_bytes: int = 1 << 25
    run_bytes: int = 1 << 20


@dataclass(frozen=True)
class Group:
    """Cells that are read together.

    Parameters
    ----------
    cells
        Positions in the data set, in the order in which they lie on disk or are asked for, ``(n,)``.
    order
        Positions in ``cells``, in the order in which minibatches take them, ``(n,)``.
    """

    cells: np.ndarray
    order: np.ndarray


@dataclass(frozen=True)
class PassStart:
    """The state of the shuffling generator at the start of a pass, with which it can be repeated.

    Parameters
    ----------
    state
        As JSON text, because its numbers have 128 bits; None without shuffling.
    """

    state: str | None = None

    @classmethod
    def of(cls, generator: np.random.Generator | None) -> PassStart:
        """Take the state of a generator down."""
        if generator is None:
            return cls()
        return cls(json.dumps(generator.bit_generator.state))

    def restore(self, generator: np.random.Generator | None) -> None:
        """Put a generator into this state."""
        if generator is not None and self.state is not None:
            generator.bit_generator.state = json.loads(self.state)


def plan_pass(
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    generator: np.random.Generator | None,
    plan: ReadingPlan,
    process: Process = ALONE,
) -> list[Group]:
    """Split cells into groups; all but the last hold whole minibatches.

    Of several processes each gets a stretch of the shuffled runs, as many cells as its shares of all
    steps, and so reads nothing that another one reads.

    Parameters
    ----------
    data
        Registered cells, on disk.
    cells
        Positions of the cells to visit, ``(n,)``; every one is in one group.
    batch_size
        Cells in a minibatch.
    generator
        Shuffles; None keeps the order of ``cells``.
    plan
        Sizes.
    process
        Whose groups.
    """
    bytes_a_cell = max(1.0, sum(modality.bytes_a_row for modality in data.modalities if modality.on_disk))
    group_size = max(1, int(plan.group_bytes / bytes_a_cell) // batch_size) * batch_size
    if generator is not None:
        run_length = min(max(1, int(plan.run_bytes / bytes_a_cell)), group_size)
        cells = _shuffled_runs(cells[_disk_order(data, cells)], run_length, generator)
    cells = cells[_stretch(len(cells), batch_size, process)]
    if generator is not None and process.n_processes > 1:
        # One draw for all, so that the shared generator stays in the same state in every process.
        seeds = generator.integers(1 << 62, size=process.n_processes)
        generator = np.random.default_rng(seeds[process.rank])
    groups = []
    for start in range(0, len(cells), group_size):
        members = cells[start : start + group_size]
        order = np.arange(len(members))
        if generator is not None:
            members = members[_disk_order(data, members)]
            order = generator.permutation(order)
        groups.append(Group(members, order))
    return groups


def _stretch(n_cells: int, batch_size: int, process: Process) -> slice:
    """Where the cells of a process stand if every step's shares are put one process after the other."""
    n_full, n_left = divmod(n_cells, batch_size * process.n_processes)
    sizes = [
        n_full * batch_size + Process(rank, process.n_processes).share(n_left).n_own
        for rank in range(process.rank + 1)
    ]
    return slice(sum(sizes[:-1]), sum(sizes))


def _disk_order(data: MultimodalData, cells: np.ndarray) -> np.ndarray:
    """Sort by row in the largest modality on disk; cells that lack it by row in the next."""
    stored = [modality for modality in data.modalities if modality.on_disk]
    stored.sort(key=lambda modality: -modality.bytes_a_row * len(modality.depth))
    keys = []
    for modality in stored:
        rows = modality.row_of_cell[cells]
        keys.append(np.where(rows >= 0, rows, len(modality.depth)))
    return np.lexsort(keys[::-1])


def _shuffled_runs(cells: np.ndarray, run_length: int, generator: np.random.Generator) -> np.ndarray:
    # The first run is cut short at random, so that neighbours are not the same in every pass.
    first = int(generator.integers(run_length)) + 1
    runs = np.split(cells, range(first, len(cells), run_length))
    return np.concatenate([runs[i] for i in generator.permutation(len(runs))])


@dataclass(frozen=True)
class _Failure:
    error: BaseException


def read_ahead(
    read: Callable[[Task], Result], tasks: Sequence[Task], n_ahead: int = 1
) -> Generator[tuple[Task, Result]]:
    """Do tasks in order in a thread of their own, while earlier results are used.

    Parameters
    ----------
    read
        Does a task. What it raises is raised here, at the task's turn.
    tasks
        In order.
    n_ahead
        How many results may wait, or be in the making, while one is used.

    Yields
    ------
    tuple
        A task and its result. When the generator is closed or ends, for whatever reason, the thread ends
        after the task that it is doing.

    Examples
    --------
    >>> list(read_ahead(lambda number: number**2, [2, 3]))
    [(2, 4), (3, 9)]
    """
    free = threading.Semaphore(n_ahead + 1)
    stopped = threading.Event()
    results: SimpleQueue[Result | _Failure] = SimpleQueue()

    def work() -> None:
        work_in_background()
        for task in tasks:
            free.acquire()
            if stopped.is_set():
                return
            give_way()
            try:
                results.put(read(task))
            except BaseException as error:
                results.put(_Failure(error))
                return

    worker = threading.Thread(target=work, name="multiomics_vae reader", daemon=True)
    worker.start()
    try:
        for task in tasks:
            result = results.get()
            if isinstance(result, _Failure):
                raise result.error
            yield task, result
            del result
            free.release()
    finally:
        stopped.set()
        free.release()
        worker.join()
