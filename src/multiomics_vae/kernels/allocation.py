"""Memory of large buffers, which is kept for the next step instead of being given back to the system.

A system clears every page that a program touches first, and takes longer for it than the processor needs to
fill the page with a matrix product. A training step frees as much as it asks for, so it need not pay twice.
"""

from __future__ import annotations

import math
import mmap
import threading
import weakref
from functools import cache

import numpy as np
import torch
from torch import Tensor

LARGE_FROM_BYTES = 2**22
MOST_KEPT_BYTES = 2**30
LARGEST_LEARNT_BYTES = 31 * 2**20  # the C library learns from pieces below 32 MiB


class MemoryKeeper:
    """Blocks of memory that nobody uses at the moment.

    Parameters
    ----------
    most_bytes
        A block that would make them more than this is given back to the system.

    Examples
    --------
    >>> keeper = MemoryKeeper(2**24)
    >>> buffer = keeper.empty(2**23); del buffer
    >>> keeper.n_bytes == 2**23
    True
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.n_bytes = 0
        self._blocks: dict[int, list[mmap.mmap]] = {}
        # A buffer may die in the middle of a call of this very class, and in any thread.
        self._lock = threading.RLock()

    def empty(self, n_bytes: int) -> np.ndarray:
        """Bytes of any content, at the start of a page; when the array dies, they are kept."""
        with self._lock:
            kept = self._blocks.get(n_bytes)
            block = kept.pop() if kept else None
            if block is not None:
                self.n_bytes -= n_bytes
        if block is None:
            block = mmap.mmap(-1, n_bytes)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                block.madvise(mmap.MADV_HUGEPAGE)
        array = np.frombuffer(block, dtype=np.uint8)
        weakref.finalize(array, self._take_back, block, n_bytes).atexit = False
        return array

    def release(self) -> None:
        """Give all blocks that are kept back to the system."""
        with self._lock:
            self._blocks.clear()
            self.n_bytes = 0

    def _take_back(self, block: mmap.mmap, n_bytes: int) -> None:
        with self._lock:
            if self.n_bytes + n_bytes <= self.most_bytes:
                self._blocks.setdefault(n_bytes, []).append(block)
                self.n_bytes += n_bytes


# As with the allocator of the C library, what is free is free for the whole process.
_KEEPER = MemoryKeeper(MOST_KEPT_BYTES)


def empty_buffer(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Make an uninitialised tensor of the type and device of ``like``.

    On a processor a large tensor takes the memory of one that has been freed, if there is any.

    Parameters
    ----------
    shape
        Sizes.
    like
        Whose type and device to take.

    Examples
    --------
    >>> empty_buffer((2, 3), torch.zeros(1)).shape
    torch.Size([2, 3])
    """
    n_bytes = math.prod(shape) * like.dtype.itemsize
    if like.device.type != "cpu" or n_bytes < LARGE_FROM_BYTES:
        return like.new_empty(shape)
    buffer = torch.from_numpy(_KEEPER.empty(n_bytes)).view(like.dtype).view(shape)
    # A view holds on to what it was made from. Detached, the tensor is the only owner of its memory, and
    # autograd adds a second gradient in place; otherwise the sum goes to fresh memory, several times slower.
    return buffer.detach()


def release_kept_memory() -> None:
    """Give the memory of freed buffers back to the system; to be called when a training ends."""
    _KEEPER.release()


@cache
def keep_freed_memory() -> None:
    """Let the C library keep pieces of some megabytes that are freed, as `empty_buffer` does the large ones.

    It gives large pieces back until it has once seen a larger one freed.
    """
    torch.empty(LARGEST_LEARNT_BYTES, dtype=torch.uint8)
