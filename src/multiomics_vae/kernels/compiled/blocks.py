"""A chunk of features shared out among threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import torch

FEWEST_FEATURES = 64  # below, waking a thread costs more than it saves


class Blocks:
    """Runs a function on blocks of a range at once, in as many threads as torch uses.

    Compiled loops let go of Python's lock, so threads are enough.

    Examples
    --------
    >>> with Blocks() as blocks:
    ...     blocks.each(10, lambda thread, low, high: None)
    """

    def __init__(self) -> None:
        self.n_threads = torch.get_num_threads()

    def __enter__(self) -> Blocks:
        self._pool = ThreadPoolExecutor(self.n_threads - 1) if self.n_threads > 1 else None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def each(self, n: int, work: Callable[[int, int, int], None]) -> None:
        """Call ``work(thread, low, high)`` for blocks ``low`` … ``high`` − 1 that make up 0 … n − 1."""
        if self._pool is None or n < FEWEST_FEATURES:
            work(0, 0, n)
            return
        edges = [n * part // self.n_threads for part in range(self.n_threads + 1)]
        waiting = [
            self._pool.submit(work, part, edges[part], edges[part + 1]) for part in range(1, self.n_threads)
        ]
        work(0, edges[0], edges[1])
        for one in waiting:
            one.result()
