"""Work shared out among threads, each of which works alone."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import TracebackType

import torch

FEWEST_FEATURES = 64  # below, waking a thread costs more than it saves


@cache
def _pool(n_threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for work; a process that was forked off starts its own."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="multiomics_vae")


class Blocks:
    """Runs a function on blocks of a range at once, in as many threads as torch uses.

    Compiled loops and matrix products let go of Python's lock, so threads are enough. Within a block torch
    has one thread: threads that share every single product wait for one another at its end, and its pool
    goes on turning for a while and keeps the others from their processor.

    Examples
    --------
    >>> with Blocks() as blocks:
    ...     blocks.each(10, lambda thread, low, high: None)
    """

    def __init__(self) -> None:
        self.n_threads = torch.get_num_threads()

    def __enter__(self) -> Blocks:
        self._pool = _pool(self.n_threads - 1, os.getpid()) if self.n_threads > 1 else None
        # A thread takes over this number when it first uses torch, and the threads of a pool keep it.
        torch.set_num_threads(1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        torch.set_num_threads(self.n_threads)

    def each(self, n: int, work: Callable[[int, int, int], None]) -> None:
        """Call ``work(thread, low, high)`` for blocks ``low`` … ``high`` − 1 that make up 0 … n − 1."""
        n_blocks = self.n_threads if n >= FEWEST_FEATURES else 1
        edges = [n * part // n_blocks for part in range(n_blocks + 1)]
        self.each_one(n_blocks, lambda thread, block: work(thread, edges[block], edges[block + 1]))

    def each_one(self, n: int, work: Callable[[int, int], None]) -> None:
        """Call ``work(thread, i)`` for 0 … n − 1; whichever thread is free takes the next one."""
        numbers = itertools.count()

        def go_on(thread: int) -> None:
            while (i := next(numbers)) < n:
                work(thread, i)

        helpers = range(1, min(self.n_threads, n))
        waiting = [self._pool.submit(go_on, thread) for thread in helpers] if self._pool else []
        go_on(0)
        for one in waiting:
            one.result()
