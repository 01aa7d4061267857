"""What to do when an answer does not fit the memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from multiomics_vae.errors import DeviceError, is_out_of_memory


@contextmanager
def memory_for(batch_size: int) -> Iterator[None]:
    """Say how an answer about ``batch_size`` cells at a time can be had if memory runs out inside.

    Raises
    ------
    DeviceError
        With half the batch size; at one cell, with what else takes less memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        mend = f"Ask again with half: batch_size={batch_size // 2}"
        if batch_size == 1:
            mend = "Ask for fewer features, or answer elsewhere: model.to_device('cpu')"
        raise DeviceError(f"Memory ran out at batch_size={batch_size}. {mend}") from error
