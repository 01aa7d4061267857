"""How the fused log likelihoods spend memory and precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from multiomics_vae.errors import InputError

CPU_BUFFER_BYTES = 2**20
GPU_BUFFER_BYTES = 2**25
FEATURES_IN_STEP = 16  # sizes of chunks are whole multiples: of a line of the cache, and of a vector
SMALLEST_CHUNK, LARGEST_CPU_CHUNK, LARGEST_GPU_CHUNK = 512, 8192, 65536


@dataclass(frozen=True)
class ChunkOptions:
    """Settings of the fused log likelihoods; results agree for all of them up to rounding.

    Parameters
    ----------
    chunk_size
        Features in a chunk. None chooses the power of two for which a ``(chunk, B)`` buffer of products fills
        about 1 MiB (the size of a level-2 cache), within 512 … 8192, and less where a compiled loop shares
        features out evenly; on a GPU, where launching a kernel costs more than cache misses, 32 MiB within
        512 … 65536.
    memory_budget
        Bytes that the outputs of all F features may take where they are needed twice (a softmax over
        features). Above it they are computed again instead.
    product_dtype
        Type in which the factors of matrix products are rounded; None keeps them as they are. With
        ``torch.bfloat16`` products are 3 to 7 times faster on processors and GPUs that know the type;
        everything else stays in float32.
    compiled
        Whether a processor walks over the entries of float32 chunks in a compiled loop, which is several
        times faster than PyTorch's operations one by one. None does where there is enough to do: compiling
        takes seconds, once for a machine. True does whatever the size, False never. Other devices and
        types, and kernels without such a loop, do without in any case.
    allow_repeated_backward
        Keep the gradients after a backward pass so that another may follow (``retain_graph=True``).
        Off, they are handed over without a copy.

    Raises
    ------
    InputError
        If a setting is out of range.

    Examples
    --------
    >>> ChunkOptions().chunk_size_for(n_cells=128, dtype=torch.float32, device=torch.device("cpu"))
    2048
    """

    chunk_size: int | None = None
    memory_budget: int = 64 * 2**20
    product_dtype: torch.dtype | None = None
    compiled: bool | None = None
    allow_repeated_backward: bool = False

    def __post_init__(self) -> None:
        if self.chunk_size is not None and self.chunk_size < 1:
            raise InputError(
                f"ChunkOptions.chunk_size must be at least 1, not {self.chunk_size}. "
                "For example: ChunkOptions(chunk_size=2048)"
            )
        if self.memory_budget < 0:
            raise InputError(
                f"ChunkOptions.memory_budget is a number of bytes and cannot be {self.memory_budget}. "
                "For example: ChunkOptions(memory_budget=64 * 2**20)"
            )
        if self.product_dtype is not None and not self.product_dtype.is_floating_point:
            raise InputError(
                f"ChunkOptions.product_dtype must be a floating-point type, not {self.product_dtype}. "
                "For example: ChunkOptions(product_dtype=torch.bfloat16)"
            )

    def chunk_size_for(self, n_cells: int, dtype: torch.dtype, device: torch.device) -> int:
        """Features in a chunk of ``n_cells`` cells."""
        if self.chunk_size is not None:
            return self.chunk_size
        on_cpu = device.type == "cpu"
        room = (CPU_BUFFER_BYTES if on_cpu else GPU_BUFFER_BYTES) // (max(n_cells, 1) * dtype.itemsize)
        power = 1 << max(room.bit_length() - 1, 0)
        return min(max(power, SMALLEST_CHUNK), LARGEST_CPU_CHUNK if on_cpu else LARGEST_GPU_CHUNK)


def even_chunk_size(n_features: int, largest: int) -> int:
    """Features in a chunk, so that chunks are even in number and as good as equal, as long as they are few.

    Threads that take one chunk after the other wait for the last; a remainder of a few features would cost
    one of them a whole turn. The last chunk is smaller by less than 16 for each of them; where there are
    hundreds, it may be a small one after all, and costs little beside the others. One chunk alone stays one.

    Parameters
    ----------
    n_features
        In all chunks.
    largest
        Features in a chunk at the most.

    Examples
    --------
    >>> even_chunk_size(15_000, 2048), even_chunk_size(100, 2048)
    (1888, 100)
    """
    if n_features <= largest:
        return n_features
    n_chunks = -(-n_features // largest)
    size = -(-n_features // (n_chunks + n_chunks % 2))
    return min(largest, -(-size // FEATURES_IN_STEP) * FEATURES_IN_STEP)
