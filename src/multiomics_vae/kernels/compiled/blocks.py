"""Work shared out among threads, each of which works alone."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from types import TracebackType

import torch

FEWEST_FEATURES = 64  # below, waking a thread costs more than it saves
LONGEST_WAY = 0.002  # seconds that work in the background gives way at once
_THREADS: ContextVar[int | None] = ContextVar("threads of blocks, where torch has one", default=None)
_IN_BACKGROUND: ContextVar[bool] = ContextVar("whether a thread works ahead of the others", default=False)


@contextmanager
def torch_alone() -> Iterator[None]:
    """Leave torch one thread, and to `Blocks` as many as torch had.

    For a program whose wide work is done in blocks. Threads that share a small operation take longer than
    one, and go on turning after it in wait of the next; where another program wants a processor, every
    operation waits for the slowest thread.

    Examples
    --------
    >>> with torch_alone():
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    token = _THREADS.set(n_threads_of_blocks())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _THREADS.reset(token)


def n_threads_of_blocks() -> int:
    """Threads that `Blocks` take."""
    return _THREADS.get() or torch.get_num_threads()


@cache
def _pool(n_threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for work; a process that was forked off starts its own.

    A thread takes over torch's number of threads, 1 where it is started, when torch first looks it up in
    there; a matrix product does not look, and would start threads of its own.
    """
    return ThreadPoolExecutor(
        n_threads, thread_name_prefix="multiomics_vae", initializer=torch.get_num_threads
    )


class _Traffic:
    """Whether all threads of blocks are wanted at the moment."""

    def __init__(self) -> None:
        self._n_under_way, self._lock = 0, threading.Lock()
        self._is_quiet = threading.Event()
        self._is_quiet.set()

    def __enter__(self) -> None:
        with self._lock:
            self._n_under_way += 1
            self._is_quiet.clear()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_under_way -= 1
            if not self._n_under_way:
                self._is_quiet.set()

    def wait(self, seconds: float) -> None:
        """Wait until it is quiet, or for so long."""
        self._is_quiet.wait(seconds)


@cache
def _traffic(process: int) -> _Traffic:
    """That of a process; one that was forked off starts with its own."""
    return _Traffic()


def work_in_background() -> None:
    """Say that the thread which calls this works ahead of the others, and that `give_way` is meant for it."""
    _IN_BACKGROUND.set(True)


def give_way() -> None:
    """In a thread that works in the background, let blocks have the processors for a moment.

    One thread more than there are processors makes the threads of a block wait for whichever of them has to
    make room: milliseconds, where the block takes half of one. To be called between pieces of work that are
    as short; it returns after `LONGEST_WAY` in any case, and at once in every other thread.
    """
    if _IN_BACKGROUND.get():
        _traffic(os.getpid()).wait(LONGEST_WAY)


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
        self.n_threads = n_threads_of_blocks()

    def __enter__(self) -> Blocks:
        self._before = torch.get_num_threads()
        self._pool = _pool(self.n_threads - 1, os.getpid()) if self.n_threads > 1 else None
        # The threads of a pool are started within a block, take over this number and keep it.
        torch.set_num_threads(1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        torch.set_num_threads(self._before)

    def each(self, n: int, work: Callable[[int, int, int], None]) -> None:
        """Call ``work(thread, low, high)`` for blocks ``low`` … ``high`` − 1 that make up 0 … n − 1."""
        n_blocks = self.n_threads if n >= FEWEST_FEATURES else 1
        edges = [n * part // n_blocks for part in range(n_blocks + 1)]
        self.each_one(n_blocks, lambda thread, block: work(thread, edges[block], edges[block + 1]))

    def each_one(self, n: int, work: Callable[[int, int], None]) -> None:
        """Call ``work(thread, i)`` for 0 … n − 1; whichever thread is free takes the next one."""
        self.begin(n, work, n_helpers=n - 1).finish()

    def begin(self, n: int, work: Callable[[int, int], None], n_helpers: int | None = None) -> Begun:
        """Do what `each_one` does, but leave it to the other threads until `Begun.finish` is called.

        Parameters
        ----------
        n, work
            As for `each_one`; ``thread`` is 0 where `Begun.finish` is called.
        n_helpers
            How many other threads take part at most; None for n.
        """
        numbers = itertools.count()

        def go_on(thread: int) -> None:
            while (i := next(numbers)) < n:
                work(thread, i)

        # Modes belong to a thread, and a tensor made in inference mode may not be written to outside it.
        in_inference, with_gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

        def help_out(thread: int) -> None:
            with torch.inference_mode(in_inference), torch.set_grad_enabled(with_gradients):
                go_on(thread)

        helpers = range(1, min(self.n_threads, 1 + (n if n_helpers is None else n_helpers)))
        return Begun(go_on, [self._pool.submit(help_out, thread) for thread in helpers] if self._pool else [])


class Begun:
    """Work that other threads have begun; made by `Blocks.begin`.

    Parameters
    ----------
    go_on
        Takes part as the thread of a number until nothing is left to be taken.
    helpers
        The others that take part.
    """

    def __init__(self, go_on: Callable[[int], None], helpers: list[Future[None]]) -> None:
        self._go_on, self._helpers = go_on, helpers

    def finish(self) -> None:
        """Take part until all is done."""
        with _traffic(os.getpid()) if self._helpers else nullcontext():
            try:
                self._go_on(0)
            finally:
                for helper in self._helpers:
                    # One that is busy elsewhere has nothing left to do here.
                    if not helper.cancel():
                        helper.result()
